"""Faults in the probes around the engine."""

from tests.mutants.mutant import Mutant

ROWS = "tests/probes/test_rows_and_spectra.py"
COORDINATES = ("tests/params/test_coordinates.py",)
PIECES = ("tests/second_order/test_chunking.py",)
MICROBATCHES = ("tests/probes/test_composition.py::test_microbatches_ragged_ones_too_add_up",)
DEVICES = ("tests/probes/test_composition.py::test_shard_map_gives_single_device_values",)

MUTANTS = (
    Mutant(
        "complex_product_by_units",
        "a real weight that multiplies complex activations is taken by units",
        "hgeo/probes/per_unit/unit_product.py",
        "if not is_real(equation.avals[0]):",
        "if False:",
        ("tests/probes/test_full_diagonal.py::test_complex_activations",),
    ),
    Mutant(
        "label_out_of_range_is_nan",
        "the tangent of a label out of range is NaN, as its entry is",
        "hgeo/second_order/sweep/labels.py",
        "return jnp.where(inside, equation.apply(array, indices)[0], 0.0)",
        "return equation.apply(array, indices)[0]",
        ("tests/second_order/test_labels.py",),
    ),
    Mutant(
        "padding_not_cut",
        "the points that fill up the last chunk stay in the results",
        "hgeo/second_order/chunking.py",
        "x.reshape(-1, *x.shape[2:])[:num_points], results)",
        "x.reshape(-1, *x.shape[2:]), results)",
        PIECES,
    ),
    Mutant(
        "mean_of_means",
        "each microbatch counts the same, whatever its number of examples",
        "hgeo/batching.py",
        "return function(jax.tree.unflatten(treedef, cut), float(count))",
        "return function(jax.tree.unflatten(treedef, cut), 1.0)",
        PIECES,
    ),
    Mutant(
        "microbatches_averaged",
        "full microbatches are averaged and the rest is added",
        "hgeo/batching.py",
        "jnp.sum(values, axis=0), stacked)",
        "jnp.mean(values, axis=0), stacked)",
        MICROBATCHES,
    ),
    Mutant(
        "devices_averaged",
        "the devices' numbers are averaged and their weights are summed",
        "hgeo/batching.py",
        "results, weight = jax.lax.psum((results, weight), axis_name)",
        "results, weight = jax.lax.pmean(results, axis_name), jax.lax.psum(weight, axis_name)",
        DEVICES,
    ),
    Mutant(
        "replicated_gradient_summed_twice",
        "params stay replicated, so that their gradient is summed over the devices twice",
        "hgeo/losses.py",
        'return jax.lax.pcast(leaf, axis_name, to="varying")',
        "return leaf",
        DEVICES,
    ),
    Mutant(
        "coordinates_unsorted",
        "coordinates are in the order of the draw",
        "hgeo/params/coordinates.py",
        "return Coordinates(layer, jnp.sort(drawn).astype(jnp.int32))",
        "return Coordinates(layer, drawn.astype(jnp.int32))",
        COORDINATES,
    ),
    Mutant(
        "drawn_with_replacement",
        "coordinates are drawn with replacement",
        "hgeo/params/coordinates.py",
        "(num,), replace=False)",
        "(num,), replace=True)",
        COORDINATES,
    ),
    Mutant(
        "repeated_draws_kept",
        "coordinates of a large layer are drawn with replacement",
        "hgeo/params/coordinates.py",
        "is_first = jnp.append(True, ordered[1:] != ordered[:-1])",
        "is_first = ordered >= 0",
        COORDINATES,
    ),
    Mutant(
        "key_without_the_name",
        "layers of one size have the same coordinates",
        "hgeo/params/coordinates.py",
        "layer_key = jax.random.fold_in(key, zlib.crc32(layer.name.encode()))",
        "layer_key = key if zlib.crc32(layer.name.encode()) else key",
        COORDINATES,
    ),
    Mutant(
        "mixing_taken_for_independent",
        "the full diagonal by units takes all axes for independent examples",
        "hgeo/probes/per_unit/unit_product.py",
        """independent=tuple(axis for axis in places if mixed[axis] is None),
        positions=tuple(axis for axis in places if mixed[axis] is not None),""",
        """independent=tuple(axis for axis in places if mixed),
        positions=(),""",
        (
            "tests/probes/test_full_diagonal.py::"
            "test_examples_that_mix_are_not_taken_for_independent",
        ),
    ),
    Mutant(
        "second_use_overlooked",
        "a matrix that enters the loss twice is taken by units at its first place",
        "hgeo/probes/per_unit/unit_product.py",
        "if len(uses) != 1:",
        "if not uses:",
        (
            "tests/probes/test_full_diagonal.py::"
            "test_a_matrix_that_enters_more_than_once_is_taken_by_coordinates",
        ),
    ),
    Mutant(
        "hutchinson_error_without_root",
        "the standard error of Hutchinson's estimate is divided by the number of samples",
        "hgeo/probes/stochastic_diagonal.py",
        "error = jnp.std(samples, axis=0, ddof=1) / num_samples**0.5",
        "error = jnp.std(samples, axis=0, ddof=1) / num_samples",
        ("tests/probes/test_stochastic_diagonal.py::test_is_unbiased_and_its_error_honest",),
    ),
    Mutant(
        "lanczos_weights_not_squared",
        "the quadrature's weights are first components and not their squares",
        "hgeo/probes/spectrum.py",
        "return values, vectors[0] ** 2, residual",
        "return values, jnp.abs(vectors[0]), residual",
        (f"{ROWS}::test_spectrum_equals_that_of_the_dense_hessian",),
    ),
    Mutant(
        "noise_taken_for_a_direction",
        "Lanczos goes on where the Krylov space of its start vector ends",
        "hgeo/probes/spectrum.py",
        "norms > NOISE * jnp.finfo(norms.dtype).eps * largest",
        "norms >= 0 * largest",
        (f"{ROWS}::test_a_krylov_space_that_ends_early_gives_the_dense_spectrum",),
    ),
    Mutant(
        "trace_error_without_root",
        "the trace's standard error is divided by the number of samples",
        "hgeo/probes/spectrum.py",
        "trace_error=jnp.std(traces, ddof=1) / num_samples**0.5",
        "trace_error=jnp.std(traces, ddof=1) / num_samples",
        (f"{ROWS}::test_the_traces_error_is_honest",),
    ),
    Mutant(
        "row_with_its_diagonal",
        "the sum over a row of the Hessian has its diagonal entry",
        "hgeo/probes/row_dominance.py",
        "rest = row.at[place].set(0.0)",
        "rest = row",
        (f"{ROWS}::test_a_constant_matrix_of_n_rows_has_r_diag_of_the_root_of_n_minus_one",),
    ),
    Mutant(
        "row_of_another_layer",
        "rows through several layers start at the first of them",
        "hgeo/probes/row_dominance.py",
        "place = start + index",
        "place = index",
        (f"{ROWS}::test_rows_equal_those_of_the_dense_hessian",),
    ),
    Mutant(
        "condition_number_inverted",
        "the condition number is the smallest eigenvalue over the largest",
        "hgeo/probes/condition_number.py",
        "condition_number=float(sizes[0] / sizes[-1]),",
        "condition_number=float(sizes[-1] / sizes[0]),",
        (f"{ROWS}::test_condition_number_of_a_known_matrix",),
    ),
)
