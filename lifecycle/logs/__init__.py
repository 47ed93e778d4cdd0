"""The logs of processes as people read them: whole lines with time and level, secrets hidden.

The agent moves and keeps bytes (`lifecycle.agent`); what they mean is known here, on the reader's
side.
"""
