"""The project: it composes the apps and owns no rule of theirs."""
