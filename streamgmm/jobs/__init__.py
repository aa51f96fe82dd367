"""Jobs: steps that are declared in a file or by a command's options, and run to an end that a scheduler understands.

`declaration` says what a job can be; the checks of a file, its JSON Schema and its documentation come from there.
`reading` makes one of a TOML file. `steps` performs each kind of step with what the estimators offer. `running` runs a
job: one lock for each output, one cluster, one result, an exit code (`exit_codes`), a log and metrics. The commands of
the command line are jobs of one step.
"""
