"""The agent: one per host. It forks workers, sees them end, keeps their logs and exit codes, and
decides nothing.

`server` answers the master over a Unix socket and asks the `zygote`, a process with Django, Celery
and all tasks imported, for a new worker. The zygote forks a `keeper`; the keeper forks the worker,
holds its lock, moves its output into log files, waits for it and writes down how it ended. Agent
and zygote may die at any instruction: keepers and workers stay, and what is on disk (`layout`)
tells the next agent all about them.
"""
