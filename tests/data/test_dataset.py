"""Samples in arrays: what is put in is read back, selected, shared with other processes, and small."""

from __future__ import annotations

import io
import pickle
from collections.abc import Sequence
from dataclasses import fields
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from gfocal.data.dataset import FileData, Problem, Sample, SampleTable


def sample(number: int, count: int, path: Path | None = Path("/data/a.jpg"), rich: bool = False) -> Sample:
    generator = torch.Generator().manual_seed(number)
    return Sample(
        image_id=number,
        path=path,
        boxes=torch.rand(count, 4, generator=generator),
        labels=torch.randint(9, (count,), generator=generator),
        crowd=torch.rand(count, generator=generator) < 0.3,
        size=(number + 1, 7) if rich else None,
        areas=torch.rand(count, generator=generator).double() if rich else None,
        edge_laws=torch.rand(count, 4, 3, generator=generator) if rich else None,
    )


def same(a: Sample, b: Sample) -> bool:
    """Equal in every field, types included; that nothing is stated may be said by None as well."""
    for entry in fields(Sample):
        one, other = getattr(a, entry.name), getattr(b, entry.name)
        if isinstance(one, Tensor) and isinstance(other, Tensor):
            if one.dtype != other.dtype or not torch.equal(one.nan_to_num(-1.0), other.nan_to_num(-1.0)):
                return False
        elif isinstance(one, Tensor) or isinstance(other, Tensor):
            stated = one if isinstance(one, Tensor) else other
            if not stated.isnan().all():
                return False
        elif one != other or type(one) is not type(other):
            return False
    return True


def some_samples() -> list[Sample]:
    return [
        sample(5, 3, rich=True),
        sample(3, 0, rich=True),
        sample(2**40, 1, Path("/data/deep/ü b.png")),
        sample(-1, 2, None),
        sample(9, 0, Path("/data/deep/" + "x" * 200)),
        sample(8, 4, rich=True),
    ]


def assert_same(found: Sequence[Sample], wanted: Sequence[Sample]) -> None:
    assert len(found) == len(wanted)
    for one, other in zip(found, wanted, strict=True):
        assert same(one, other), (one, other)


def test_samples_are_restored() -> None:
    samples = some_samples()
    table = SampleTable.from_samples(samples)
    assert_same(table, samples)
    assert_same(SampleTable.from_samples(list(table)), samples)
    assert same(table[-1], samples[-1])
    assert_same(table[1:5:2], samples[1:5:2])
    assert_same(table[::-1], samples[::-1])
    for beyond in (6, -7):
        with pytest.raises(IndexError):
            table[beyond]


def test_empty_table() -> None:
    table = SampleTable.from_samples([])
    assert len(table) == len(table.select([])) == len(table.indices_with_objects()) == 0
    assert len(SampleTable.from_samples([sample(1, 2, None)]).select([])) == 0


def test_unstated_areas_stay_unstated() -> None:
    areas = torch.tensor([torch.nan, 5.0], dtype=torch.float64)
    stated = Sample(1, None, torch.zeros(2, 4), torch.zeros(2).long(), torch.zeros(2).bool(), areas=areas)
    unsaid = Sample(2, None, torch.zeros(2, 4), torch.zeros(2).long(), torch.zeros(2).bool())
    table = SampleTable.from_samples([stated, unsaid])
    found = table[0].areas
    assert found is not None
    assert found.tolist()[1:] == [5.0]
    assert found.isnan().tolist() == [True, False]
    assert table[1].areas is None
    assert SampleTable.from_samples([unsaid]).areas is None


@given(
    counts=st.lists(st.integers(0, 4), max_size=12),
    rich=st.booleans(),
    names=st.lists(
        st.text(st.characters(exclude_characters="\0/", exclude_categories=["Cs"]), min_size=1), max_size=12
    ),
    data=st.data(),
)
def test_select_equals_selecting_from_the_list(
    counts: list[int], rich: bool, names: list[str], data: st.DataObject
) -> None:
    paths = [Path("/images", name) for name in names] + [None] * len(counts)
    samples = [sample(i, n, path, rich) for i, (n, path) in enumerate(zip(counts, paths, strict=False))]
    table = SampleTable.from_samples(samples)
    assert_same(table, samples)
    indices = data.draw(st.lists(st.integers(0, len(samples) - 1), max_size=20)) if samples else []
    assert_same(table.select(indices), [samples[i] for i in indices])
    assert_same(table.select(torch.tensor(indices, dtype=torch.int64)), [samples[i] for i in indices])
    assert table.sample_indices().tolist() == [i for i, n in enumerate(counts) for _ in range(n)]
    assert table.indices_with_objects().tolist() == [i for i, s in enumerate(samples) if (~s.crowd).any()]


def test_a_sample_is_a_copy() -> None:
    """Whoever changes it, or sends it to another process, changes and sends nothing else."""
    table = SampleTable.from_samples([sample(i, 100, rich=True) for i in range(50)])
    one = table[3]
    for values in (one.boxes, one.labels, one.areas, one.edge_laws):
        assert values is not None
        values.zero_()
    one.crowd.fill_(True)
    assert same(table[3], sample(3, 100, rich=True))
    assert len(pickle.dumps(one)) < len(pickle.dumps(table)) / 20


def test_dataset_converts_its_samples_to_a_table() -> None:
    samples = some_samples()
    problem = Problem("file", "record", "reason", "kept")
    data = FileData(("a",), (7,), samples, [problem])
    assert isinstance(data.samples, SampleTable)
    assert_same(data.samples, samples)
    assert data.table is data.samples
    assert same(data.sample(4), samples[4])
    part = data.select([4, 0])
    assert_same(part.samples, [samples[4], samples[0]])
    assert (part.names, part.category_ids, part.problems) == (data.names, data.category_ids, [problem])
    assert repr(part) == "FileData(2 images, 3 objects, 1 problem; 1 class: a)"


def test_spawned_process_shares_the_arrays() -> None:
    samples = [sample(i, 5, Path(f"/a/common/folder/{i:06d}.jpg")) for i in range(3000)]
    data = FileData(("a",), (1,), samples)
    plain = len(pickle.dumps(data))
    assert plain < 0.2 * len(pickle.dumps(samples))
    assert_same(pickle.loads(pickle.dumps(data)).samples[:50], samples[:50])
    stream = io.BytesIO()
    ForkingPickler(stream).dump(data)
    assert len(stream.getvalue()) < 10_000


def test_table_has_few_python_objects() -> None:
    """Python objects in a table, which processes would copy, do not grow with its samples."""
    import gc

    def objects(count: int) -> int:
        table = SampleTable.from_samples([sample(i, 2, Path(f"/a/{i}.jpg"), rich=True) for i in range(count)])
        seen: dict[int, object] = {}
        waiting: list[object] = [vars(table)]
        while waiting:
            one = waiting.pop()
            if id(one) not in seen and not isinstance(one, type):
                seen[id(one)] = one
                waiting += gc.get_referents(one)
        return len(seen)

    assert objects(500) == objects(5)
