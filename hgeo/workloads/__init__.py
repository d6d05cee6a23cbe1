"""The paper's tasks: model, data and loss of each behind one interface (`workload.Workload`)."""
