"""Where the tests' time goes: `pytest --time-report` prints a table by file.

Wall and CPU seconds of each test (set-up and tear-down included), the seconds that JAX says it
traced, lowered and compiled, and each process's largest resident memory. Traces nest, so that the
tracing of a jitted function within another is counted in both.
"""

import collections
import resource
import time

import jax.monitoring
import pytest

EVENTS = {
    "/jax/core/compile/jaxpr_trace_duration": "trace",
    "/jax/core/compile/jaxpr_to_mlir_module_duration": "lower",
    "/jax/core/compile/backend_compile_duration": "compile",
}
COLUMNS = ("tests", "wall", "cpu", "trace", "lower", "compile")
_spent = collections.Counter()
_by_file = collections.defaultdict(collections.Counter)
_by_test = collections.Counter()
_memory = {}


def _listen(event, seconds, **_):
    if event in EVENTS:
        _spent[EVENTS[event]] += seconds


jax.monitoring.register_event_duration_secs_listener(_listen)


def _cpu():
    own, children = (
        resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    _spent.clear()
    item.user_properties.append(("begun", (_cpu(), time.monotonic())))
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if call.when == "teardown":
        cpu, wall = dict(item.user_properties)["begun"]
        spent = dict(_spent, tests=1, cpu=_cpu() - cpu, wall=time.monotonic() - wall)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        report.user_properties = [("spent", spent), ("peak", (id(item.config), peak))]
    return report


def pytest_runtest_logreport(report):
    properties = dict(report.user_properties)
    if report.when == "teardown" and "spent" in properties:
        _by_file[report.nodeid.partition("::")[0]].update(properties["spent"])
        _by_test[report.nodeid] += properties["spent"]["cpu"]
        worker = getattr(report, "worker_id", "main")
        _memory[worker] = max(_memory.get(worker, 0), properties["peak"][1])


def pytest_terminal_summary(terminalreporter):
    if not _by_file:
        return
    write = terminalreporter.write_line
    total = sum(_by_file.values(), collections.Counter())
    write("")
    write("| file | " + " | ".join(COLUMNS) + " |")
    write("| --- |" + " ---: |" * len(COLUMNS))
    ordered = sorted(_by_file.items(), key=lambda entry: -entry[1]["cpu"])
    for name, spent in [*ordered, ("all", total)]:
        write(f"| {name} | " + " | ".join(f"{spent[column]:.0f}" for column in COLUMNS) + " |")
    write("")
    for name, seconds in _by_test.most_common(terminalreporter.config.getoption("durations") or 20):
        write(f"{seconds:7.1f} CPU s  {name}")
    for worker, peak in sorted(_memory.items()):
        write(f"{worker}: at most {peak:.2f} GiB")
