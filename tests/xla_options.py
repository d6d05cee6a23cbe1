"""How the tests' programs are compiled, since compiling takes most of their time."""

import importlib.metadata

QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}

# What users' programs are compiled with.
STANDARD = {"xla_backend_optimization_level": 3, "xla_llvm_disable_expensive_passes": False}

# XLA ends the process on a flag that it does not know, and later releases do not know this one.
if importlib.metadata.version("jaxlib").startswith("0.10."):
    QUICK["xla_cpu_use_fusion_emitters"] = False
    STANDARD["xla_cpu_use_fusion_emitters"] = True

FLAGS = " ".join(f"--{name}={str(value).lower()}" for name, value in QUICK.items())
