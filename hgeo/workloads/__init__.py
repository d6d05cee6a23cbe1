"""The paper's tasks: model, data and loss of each behind one interface (`workload.Workload`).

Each makes its model and data of its own blocks of a config (`model`, `data` and what else its
function names); an experiment calls it once, through what it resolved.
"""
