"""Norms and near misses as tables: repeated layers share a row unless all are asked for."""

from __future__ import annotations

from dataclasses import replace

from rms_deploy.fusion.norm_tables import near_miss_table, norm_table

from ..made_results import LAYERS, near_misses, norms


def test_layers_share_a_row() -> None:
    table = norm_table(norms())
    assert [row[0] for row in table.rows] == [
        "model.layers.{0-31}.input_layernorm x32",
        "model.layers.{0-31}.post_attention_layernorm x32",
        "model.norm",
    ]
    assert len(norm_table(norms(), full=True).rows) == 2 * LAYERS + 1
    assert set(table.first_to_go) < set(table.header)


def test_a_layer_that_differs_has_a_row_of_its_own() -> None:
    all_norms = list(norms())
    all_norms[6] = replace(all_norms[6], epsilon=1e-6)
    table = norm_table(all_norms)
    places = [row[0] for row in table.rows]
    assert "model.layers.3.input_layernorm" in places
    assert "model.layers.{0-2,4-31}.input_layernorm x31" in places
    assert table.rows[places.index("model.layers.3.input_layernorm")][5] == "1e-06"


def test_the_worst_distance_of_a_row() -> None:
    all_norms = [replace(norm, max_ulp=2 if i == 10 else None) for i, norm in enumerate(norms())]
    assert [row[-1] for row in norm_table(all_norms).rows] == ["2", "", ""]


def test_near_misses_of_layers_share_a_row() -> None:
    (row,) = near_miss_table(near_misses()).rows
    assert row[:2] == ("/model/layers.{0-31}/self_attn/q_norm/ReduceMean x32", "mean of squares")
    assert len(near_miss_table(near_misses(), full=True).rows) == LAYERS


def test_the_types_of_what_stands_around_a_norm() -> None:
    """The scales of layers that are quantised differ, and they share a row all the same."""
    first, *others = (replace(norm, output_dtype="int8", y_scale=0.01 * i) for i, norm in enumerate(norms()))
    table = norm_table([first, *others])
    assert len(table.rows) == len(norm_table(norms()).rows)
    assert {row[4] for row in table.rows} == {f"{first.dtype} to int8"}
    assert norm_table([replace(first, output_dtype=None, dtype="float16", sum_dtype="float32")]).rows[0][4] == (
        "float16 + float32"
    )
    assert norm_table([replace(first, dtype="float16", sum_dtype="float16")]).rows[0][4] == "float16 to int8"
