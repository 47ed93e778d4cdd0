"""The suite that every platform adapter passes against its real server [S1, S3, S4, S9, S12].

`stage.py` says what a platform's test module has to bring, `tests/contract/platform_contract.py`
puts the subjects together.
"""
