"""The paper's tasks: model, data and loss of each, as a `workload.Workload`.

Each reads its blocks of a config (`model`, `data` and what its function names); an experiment calls
it once.
"""
