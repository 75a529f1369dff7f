"""metrics.csv is whole at every moment, and continues where a run is resumed."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from gfocal.console import progress_bar
from gfocal.run_folder import RunFolder
from gfocal.training.metrics_log import COLUMNS, MetricsLog, format_epoch, read_metrics, set_aside_unusable_metrics


def row(epoch: int, **more: float) -> dict[str, float]:
    return {"epoch": epoch, "step": 10 * epoch, "loss": 1 / epoch, **more}


def filled(folder: Path, epochs: int) -> Path:
    log = MetricsLog(RunFolder(folder).metrics)
    for epoch in range(1, epochs + 1):
        log.add(row(epoch))
    log.close()
    return RunFolder(folder).metrics


def test_rows_are_there_as_soon_as_they_are_added(tmp_path: Path) -> None:
    log = MetricsLog(RunFolder(tmp_path).metrics)
    log.add(row(1))
    assert [r["epoch"] for r in read_metrics(RunFolder(tmp_path).metrics)] == ["1"]
    log.add(row(2, ap=0.25))
    rows = read_metrics(RunFolder(tmp_path).metrics)
    assert tuple(rows[0]) == COLUMNS
    assert [r["ap"] for r in rows] == ["", "0.25"]
    assert float(rows[1]["loss"]) == 0.5


def test_a_resumed_run_keeps_the_rows_of_the_epochs_that_are_done(tmp_path: Path) -> None:
    path = filled(tmp_path, 4)
    before = path.read_text().splitlines()
    log = MetricsLog(RunFolder(tmp_path).metrics, keep_epochs=2)
    log.add(row(3, ap=0.5))
    after = path.read_text().splitlines()
    assert after[:3] == before[:3]  # to the letter
    assert [r["epoch"] for r in read_metrics(path)] == ["1", "2", "3"]


def test_a_new_run_starts_a_new_table(tmp_path: Path) -> None:
    path = filled(tmp_path, 3)
    MetricsLog(RunFolder(tmp_path).metrics).add(row(1))
    assert len(read_metrics(path)) == 1


def test_the_table_is_replaced_not_written_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = filled(tmp_path, 2)
    before = path.read_bytes()
    log = MetricsLog(RunFolder(tmp_path).metrics, keep_epochs=2)

    def fails(*_: object, **__: object) -> int:
        raise OSError("no space left on device")

    monkeypatch.setattr(Path, "write_text", fails)
    with pytest.raises(OSError, match="no space"):
        log.add(row(3))
    assert path.read_bytes() == before


def test_an_unknown_column_is_a_mistake_of_ours(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="lss"):
        MetricsLog(RunFolder(tmp_path).metrics).add({"lss": 1})


def test_the_bar_is_shown_to_people_only() -> None:
    for terminal in (True, False):
        file = io.StringIO()
        with progress_bar(Console(file=file, force_terminal=terminal, width=100), "epoch 1/2", 2) as bar:
            bar.advance(8, "cls 0.5")
            bar.advance(8)
        assert bar.images == 16
        assert ("epoch 1/2" in file.getvalue()) == terminal


@pytest.mark.parametrize(("epochs", "loss"), [(12, 1.0), (300, 12.345)])
def test_the_line_of_an_epoch_fits_80_columns(epochs: int, loss: float) -> None:
    row = {"loss": loss, "loss_cls": loss, "loss_box": 0.5, "loss_dfl": 0.25, "positives": 1, "ap": 0.1234}
    line = format_epoch(7, epochs, row, 86_400, 864_000)
    assert len(line) <= 80
    assert line.split()[0] == "epoch"
    assert line.endswith("  AP 0.123  took 24.0 h, 240.0 h left")
    assert "AP" not in format_epoch(7, epochs, {key: value for key, value in row.items() if key != "ap"}, 1)
    assert format_epoch(7, 12, row, 1).startswith("epoch  7/12 ")
    assert format_epoch(12, 12, row, 7, 0.0).endswith("took 7 s")  # nothing is left after the last epoch


HEAD = ",".join(COLUMNS)
ROW = "1,2,3,4.5,0.01,1,1,1,1,,,2.5,0.1,0.2,0.3"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ((HEAD + "\n" + ROW).replace(",", ";").encode(), "no column epoch; is it separated by commas"),
        ((HEAD + "\n" + ROW).encode("utf-16"), "utf-8"),
        ((HEAD + "\n" + ROW.replace("0.01", '"0,01"')).encode(), "lr of row 1 is no number: '0,01'"),
        ((HEAD + ",note\n" + ROW + ",good").encode(), "an unknown column 'note'"),
        ((HEAD + "\n" + ROW + ",x").encode(), "row 1 has another number of cells"),
        ((HEAD + "\n" + ROW.replace("1,", "Jan 1,", 1)).encode(), "epoch of row 1 is no number"),
        ((HEAD + "\n" + '"' + "x" * 200_000).encode(), "no table"),
        (b"\0\xff", "utf-8"),
    ],
)
def test_a_table_that_a_spreadsheet_saved_is_set_aside(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "metrics.csv"
    path.write_bytes(content)
    line = set_aside_unusable_metrics(path)
    assert reason in line
    assert "it is now metrics.aside-1.csv" in line
    assert not path.exists()
    assert (tmp_path / "metrics.aside-1.csv").read_bytes() == content
    path.write_bytes(content)
    assert "metrics.aside-2.csv" in set_aside_unusable_metrics(path)


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_a_table_that_was_only_saved_again_is_kept(tmp_path: Path, line_end: str, mark: str) -> None:
    path = tmp_path / "metrics.csv"
    path.write_bytes((mark + HEAD + line_end + ROW + line_end).encode())
    assert set_aside_unusable_metrics(path) == ""
    log = MetricsLog(path, keep_epochs=1)
    log.add({"epoch": 2})
    assert [row["epoch"] for row in read_metrics(path)] == ["1", "2"]
    assert read_metrics(path)[0]["lr"] == "0.01"
