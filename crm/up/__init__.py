"""`manage.py up`: the whole system on one machine, each part a supervised process.

`run` is the order of things, `parts` says what is started, `supervisor` keeps it alive, `state` is
what is on disk (lock, `up.json`), `gate` is where a process waits until it is written there,
`leftovers` ends what a killed run left, `bootstrap` fills an empty database, `broker` watches one
that is not ours, `overview` is `manage.py ps`.

No part is tied to `up` by PR_SET_PDEATHSIG: when `up` is killed, the parts go on serving, and the
workers with them. The next `up` finds them in `up.json`, ends them (not the workers: the new agent
takes those over) and starts again.
"""
