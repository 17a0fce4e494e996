"""The page on performance is rendered from its figures, and is up to date."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ElementTree
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench import charts, figures, parts, report, run

if TYPE_CHECKING:
    from pathlib import Path


def sample(client: str, work: str = "read", in_flight: int = 128, **more: Any) -> dict[str, Any]:
    return {"client": client, "work": work, "in_flight": in_flight, **more}


def test_page_is_what_rendering_its_figures_gives() -> None:
    page = (report.PUBLISHED / "performance.md").read_text()
    assert page == report.markdown(report.load(report.PUBLISHED))
    pictures = {path.name for path in (report.PUBLISHED / report.PICTURES).iterdir()}
    assert set(re.findall(rf"!\[.*?\]\({report.PICTURES}/(.*?)\)", page)) == pictures


def test_own_pictures_are_of_the_figures(tmp_path: Path) -> None:
    results = report.load(report.PUBLISHED)["parts"]
    names = [
        name
        for part in ("canned", "live", "cluster", "stream", "memory")
        if part in results
        for name in parts.plots(part, results[part]["data"], tmp_path)
    ]
    assert names
    for name in names:
        published = report.PUBLISHED / report.PICTURES / name
        assert (tmp_path / name).read_text() == published.read_text()


def test_figures_name_no_machine() -> None:
    about = report.about(3)
    assert set(about) == {"date", "rounds", "machine", "versions"}
    assert "/" not in about["machine"]
    assert about["versions"]["anyio"]


def test_saved_figures_are_found_again(tmp_path: Path) -> None:
    results = {"parts": {"live": {"about": {"a": 1}, "data": {"x": [1.5, 2, -3e-05], "y": [[1]]}}}}
    report.save(tmp_path / "new", results)
    assert report.load(tmp_path / "new") == results
    assert '"x": [1.5, 2, -3e-05]' in (tmp_path / "new" / "performance.json").read_text()
    assert report.load(tmp_path / "none") == {"parts": {}}


def test_render_alone_measures_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = {
        "samples": [
            sample("cqlproto/asyncio/v4", cpu_us=[6.0, 9.0, 8.0], rate=[2e5, 1e5, 1e5]),
            sample("bare/asyncio", cpu_us=[3.0], rate=[3e5]),
            sample("acsylla", cpu_us=[4.0], rate=[2e5]),
        ],
        "left_out": {"rsylla, read": "panicked | badly"},
    }
    results = {"parts": {"canned": {"about": report.about(3), "data": data}}}
    (tmp_path / "performance.json").write_text(json.dumps(results))
    (tmp_path / report.PICTURES).mkdir()
    (tmp_path / report.PICTURES / "old.svg").write_text("")
    assert run.main(["--render", "--output", str(tmp_path)]) == 0
    assert "8.000 <= 7" in capsys.readouterr().out
    page = (tmp_path / "performance.md").read_text()
    assert "0 of 1 are met" in page
    assert "| canned, CPU us of a read on asyncio | at most 7 | 8 | **not met** |" in page
    assert "| cqlproto/asyncio/v4 | 8.00 (6.00 - 9.00) | 1.00 | 5.00 | 100,000 |" in page
    assert "![CPU of the clients](performance/canned.svg)" in page
    assert "- rsylla, read: `panicked" in page
    assert [path.name for path in (tmp_path / report.PICTURES).iterdir()] == ["canned.svg"]


@pytest.mark.parametrize(
    ("higher", "measured", "met"),
    [(False, 2.0, True), (False, 2.1, False), (True, 2.0, True), (True, 1.9, False)],
)
def test_gate_is_met_at_its_limit(higher: bool, measured: float, met: bool) -> None:
    assert parts.Gate("speed", 2.0, measured, higher).met is met


def test_gates_of_live_are_ratios_of_medians() -> None:
    data = {
        "samples": [
            sample("cqlproto/asyncio", rate=[90, 100, 300]),
            sample("acsylla", rate=[50]),
            sample("cqlproto/asyncio", in_flight=1, p50_us=[110]),
            sample("acsylla", in_flight=1, p50_us=[100]),
        ],
        "left_out": {},
    }
    found = parts.gates("live", data)
    assert [(gate.limit, gate.measured, gate.met) for gate in found] == [
        (1.0, 2.0, True),
        (1.1, 1.1, True),
    ]


def test_gates_of_bulk_are_ratios_to_the_best_of_each_peer() -> None:
    data = {
        "samples": [
            sample("cqlproto/trio", "bulk", 256, rate=[90, 100, 300], cpu_us=[9], peak_mib=[99]),
            sample("acsylla", "bulk", 64, rate=[50, 500, 50], cpu_us=[9], peak_mib=[50]),
            sample("acsylla", "bulk", 256, rate=[60, 80, 240], cpu_us=[9], peak_mib=[60]),
            sample("cassandra-driver", "bulk", 100, rate=[9, 10, 20], cpu_us=[9], peak_mib=[9]),
        ],
        "canned": [
            sample("cqlproto/trio/v4", "bulk", 256, rate=[1], cpu_us=[3], peak_mib=[1]),
            sample("acsylla", "bulk", 64, rate=[1], cpu_us=[5], peak_mib=[1]),
            sample("acsylla", "bulk", 256, rate=[1], cpu_us=[4], peak_mib=[1]),
        ],
        "alone": [sample("cqlproto/trio", "bulk", 256, rate=[1], cpu_us=[3], peak_mib=[40])],
        "left_out": {},
        "rows": 1000,
        "turns": 3,
    }
    found = parts.gates("bulk", data)
    assert [(gate.limit, gate.measured, gate.met) for gate in found] == [
        (1.0, 1.25, True),
        (8.0, 10.0, True),
        (1 / 1.3, 0.75, True),
        (80e6 / 2**20, 40, True),
    ]
    assert "| acsylla | 256 |" in parts.markdown("bulk", data)


def test_gates_of_three_nodes_are_ratios_to_acsylla() -> None:
    data = {
        "samples": [
            sample("cqlproto/trio", rate=[90, 100, 300], cpu_us=[20]),
            sample("acsylla", rate=[125], cpu_us=[30]),
            sample("cqlproto/trio", "write", rate=[100], cpu_us=[20]),
            sample("acsylla", "write", rate=[125], cpu_us=[30]),
        ],
        "left_out": {},
    }
    found = parts.gates("cluster", data)
    assert [(gate.limit, gate.measured, gate.met) for gate in found] == [
        (1.0, 0.8, False),
        (0.8, 0.8, True),
    ]
    assert "| acsylla | 125 (125 - 125) | - | - | - | 30.0 (30.0 - 30.0) |" in parts.markdown(
        "cluster", data
    )


def of_hosts(hosts: int, hot: float, any_key: float, peak: float = 80.0) -> dict[str, Any]:
    return {
        "hosts": hosts,
        "backend": "trio",
        "ready_s": [0.5, 2.0, 9.0],
        "ready_cpu_s": [0.25],
        "all_s": [2.5],
        "all_cpu_s": [1.0],
        "before_mib": [30.4],
        "ready_mib": [50.0],
        "all_mib": [60.0],
        "peak_mib": [peak],
        "few_us": [hot],
        "many_us": [any_key],
    }


def test_gates_of_hosts() -> None:
    data = {"tokens": 256, "samples": [of_hosts(10, 2.0, 2.0), of_hosts(1_000, 3.0, 4.1, 151)]}
    found = {gate.what: (gate.measured, gate.met) for gate in parts.gates("hosts", data)}
    assert found == {
        "10 hosts on trio, us of a plan": (2.0, True),
        "1,000 hosts on trio, s until ready": (2.0, True),
        "1,000 hosts on trio, MiB at the peak": (151, False),
        "1,000 hosts on trio, us of a plan": (4.1, False),
        "a hot plan on trio, 1,000 hosts to 10": (1.5, False),
    }
    page = parts.markdown("hosts", data)
    assert "| 1,000, trio | 2.00 (0.500 - 9.00) | 0.250 (0.250 - 0.250) |" in page
    assert "| 10, trio | 2.00 (2.00 - 2.00) | 2.00 (2.00 - 2.00) |" in page


@given(st.floats(min_value=1e-3, max_value=1e9))
def test_numbers_keep_three_digits(value: float) -> None:
    found = float(figures.number(value).replace(",", ""))
    assert found == pytest.approx(value, rel=0.01, abs=5e-4)


def test_spread_ratio_and_latency() -> None:
    assert figures.spread([3, 1, 2000]) == "3.00 (1.00 - 2,000)"
    assert figures.ratio(3.0, 2.0) == "1.50"
    assert figures.ratio(None, 2.0) == figures.ratio(2.0, None) == figures.NOTHING
    assert figures.milliseconds({"p50_us": [1500, 1600, 9000]}, "p50_us") == "1.60"
    assert figures.milliseconds({}, "p50_us") == figures.NOTHING


def test_chart_has_a_bar_of_each_client_from_least_to_most() -> None:
    text = charts.svg(
        [
            charts.panel("a < b", [sample("cqlproto/trio", rate=[2, 4, 3])], "rate"),
            charts.panel("none", [sample("acsylla")], "rate"),
            charts.panel("ms", [sample("acsylla", p50_us=[2000])], "p50_us", lambda us: us / 1e3),
        ]
    )
    root = ElementTree.fromstring(text)
    space = "{http://www.w3.org/2000/svg}"
    texts = [each.text for each in root.iter(f"{space}text")]
    assert texts == ["a < b", "cqlproto/trio", "3.00", "none", "ms", "acsylla", "2.00"]
    background, first, second = root.iter(f"{space}rect")
    assert first.get("fill") == charts.OURS
    assert second.get("fill") == charts.PEER
    whisker = next(iter(root.iter(f"{space}line")))
    x, width = float(first.get("x", 0)), float(first.get("width", 0))
    assert float(whisker.get("x1", 0)) < x + width < float(whisker.get("x2", 0))
    assert float(whisker.get("x2", 0)) < float(background.get("width", 0))
