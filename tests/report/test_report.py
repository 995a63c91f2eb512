"""The report of a sweep: its files, and its page in a real browser without a network."""

import csv
import json
import math
import re
import shutil
from pathlib import Path

import pytest
import yaml
from PIL import Image
from small_sweep import BITS, KEPT, OURS, WEBP

from crlsc_phy.cli.sweep import main
from crlsc_phy.errors import SweepError
from crlsc_phy.report.curves import draw_curves, looks
from crlsc_phy.report.imported import ImportedLine, import_curves
from crlsc_phy.report.page import figure, ranges, signed, typeset
from crlsc_phy.report.report import write_report
from crlsc_phy.report.results import Estimate, read_run

FAILURE = "worker killed twice by signal 9 <oom>; give it more memory"
METRICS = {"psnr_db", "ms_ssim", "label"}
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def reported(finished_sweep, tmp_path_factory) -> Path:
    """The small sweep with fewer metrics, a failed job and an imported curve, and its report."""
    folder = Path(shutil.copytree(finished_sweep, tmp_path_factory.mktemp("reported") / "run"))
    rows = [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]
    for row in rows:
        # Each measure costs two plots.
        row["metrics"] = {name: value for name, value in row["metrics"].items() if name in METRICS}
    failed = {key: rows[0][key] for key in ("line", "curve", "channel", "snr_db", "replica")}
    rows.append(failed | {"job": "f" * 20, "error": FAILURE})
    (folder / "results.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = folder.parent / "paper.csv"
    source.write_text("snr_db,psnr_db\n0,17.5\n8,19.25\n")
    import_curves(source, folder, "paper", "awgn")
    assert write_report(folder) == folder / "report.html"
    return folder


def table(folder) -> list[dict[str, str]]:
    with (folder / "results.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_table_has_a_row_a_point_and_measure(reported):
    rows = {(row["curve"], float(row["snr_db"]), row["measure"]): row for row in table(reported)}
    run = read_run(reported)
    for line in run.lines:
        for snr_db in line.snrs:
            for measure in ("psnr_db", "bler", "frame_loss"):
                row, found = rows[line.curve, snr_db, measure], line.estimate(snr_db, measure)
                shown = [float(row[key]) for key in ("value", "low", "high")]
                assert shown == pytest.approx([found.value, found.low, found.high], nan_ok=True)
                assert int(row["n"]) == found.n
                assert row["events"] == ("" if found.events is None else str(found.events))
    assert rows[BITS, 0.0, "psnr_db"]["value"] == "nan"
    assert rows[OURS, 12.0, "psnr_db"]["value"] == "nan"
    assert rows[OURS, 0.0, "psnr_db"]["chain"] == "analog"
    assert (rows["paper", 8.0, "psnr_db"]["chain"], rows["paper", 8.0, "psnr_db"]["value"]) == ("imported", "19.25")


def test_figures_are_for_a_journals_column(reported):
    names = {path.stem for path in (reported / "plots").iterdir()}
    assert {"psnr_db-awgn", "bler-awgn", "label-awgn"} <= names
    for path in (reported / "plots").glob("psnr_db-awgn.*"):
        if path.suffix == ".png":
            with Image.open(path) as image:
                assert (image.width / 400, image.info["dpi"][0]) == pytest.approx((3.5, 400), abs=0.5)
        else:
            content = path.read_bytes()
            width, _ = re.search(rb"/MediaBox \[ ?0 0 ([\d.]+) ([\d.]+)", content).groups()
            assert float(width) == pytest.approx(3.5 * 72)
            assert b"/FontFile2" in content
            assert b"/Type3" not in content
            assert b"/Subtype /Image" not in content
    assert not list(reported.rglob(".*.part"))


def test_a_report_is_the_same_again(reported, tmp_path, capsys):
    again = Path(shutil.copytree(reported, tmp_path / "run"))
    shutil.rmtree(again / "plots")
    for name in ("report.html", "results.csv"):
        (again / name).unlink()
    assert main(["report", str(again), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"report": str(again / "report.html")}
    for name in ("report.html", "results.csv", "plots/psnr_db-awgn.pdf", "plots/psnr_db-awgn.png"):
        assert (again / name).read_bytes() == (reported / name).read_bytes()


def test_double_width(reported, tmp_path):
    lines = read_run(reported).lines
    draw_curves([tmp_path / "wide.png"], lines, "bler", looks({line.curve: True for line in lines}, []), "double")
    with Image.open(tmp_path / "wide.png") as image:
        assert image.width == 4 * 716


def test_a_run_without_results_has_no_report(sweep_folder):
    (sweep_folder / "results.jsonl").write_text("")
    with pytest.raises(SweepError, match="holds no results yet"):
        write_report(sweep_folder)


@pytest.mark.parametrize(
    ("value", "text"), [(12.3456, "12.35"), (-0.5, "-0.500"), (0.0, "0.000"), (2.5e-5, "2.50e-05"), (math.nan, "")]
)
def test_numbers_are_written_to_be_read(value, text):
    assert figure(value) == text
    assert figure(value).isascii()
    assert signed(1.5) == "+1.50"
    assert typeset(signed(-1.5e-5)) == "−1.50e−05"


def test_snrs_in_words():
    assert ranges([-5, 0, 5, 15], [-10, -5, 0, 5, 10, 15]) == "−5 to 5 and 15\N{NO-BREAK SPACE}dB"


@pytest.mark.filterwarnings("ignore:Glyph")
def test_names_may_hold_what_matplotlib_and_file_systems_stumble_over(tmp_path):
    names = ["costs $x_{", "_hidden", "曲線" * 120, "a\nb"]
    lines = [ImportedLine(name, "awgn", {("psnr_db", 0.0): Estimate(20.0, 19.0, 21.0)}) for name in names]
    draw_curves(
        [tmp_path / f"a.{kind}" for kind in ("png", "pdf")], lines, "psnr_db", looks(dict.fromkeys(names, True), [])
    )
    assert (tmp_path / "a.png").stat().st_size > 10_000


def test_channels_of_any_name_have_plots_of_their_own(sweep_folder):
    channels = ["größe", "gräße", "é" * 240]
    config = yaml.safe_load((sweep_folder / "config.yaml").read_text())
    config["channels"] = {channel: {"model": "awgn"} for channel in channels}
    config["curves"][OURS]["channels"] = channels
    (sweep_folder / "config.yaml").write_text(yaml.safe_dump(config))
    row = json.loads((sweep_folder / "results.jsonl").read_text().splitlines()[0])
    row["metrics"] = {}
    rows = [row | {"channel": channel, "job": f"{i:020}"} for i, channel in enumerate(channels)]
    (sweep_folder / "results.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    write_report(sweep_folder)
    names = {path.name for path in (sweep_folder / "plots").glob("frame_loss-*.png")}
    assert len(names) == 3
    assert {"frame_loss-gr_e.png", "frame_loss-gr_e-2.png"} < names
    with (sweep_folder / "results.csv").open(newline="", encoding="utf-8") as file:
        assert {row["channel"] for row in csv.DictReader(file)} == set(channels)


# In a browser.

TABLE = "document.querySelector('#tables ~ [data-measure]:not([hidden]) table')"


@pytest.fixture(scope="module")
def browser():
    selenium = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    found = [shutil.which(name) for name in ("chromium", "chromedriver")]
    if not all(found):
        pytest.skip("chromium and chromedriver are not installed: apt-get install chromium chromium-driver")
    options = selenium.ChromeOptions()
    options.binary_location = found[0]
    # The sandbox wants rights that a container does not have; only our own page is opened.
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = selenium.Chrome(options=options, service=selenium.ChromeService(found[1]))
    yield driver
    driver.quit()


@pytest.fixture
def page(browser, reported):
    """The report, opened anew in a window for a desk."""
    for log in ("browser", "performance"):
        browser.get_log(log)
    resize(browser, 1280, 900)
    browser.get((reported / "report.html").as_uri())
    wait_until(browser, "return document.querySelector('#chart-0 .plot-container') !== null")
    return browser


def resize(browser, width, height):
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600},
    )


def wait_until(browser, script):
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(browser, 30).until(lambda driver: driver.execute_script(script))


def choose(browser, picker, value):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import Select

    Select(browser.find_element(By.ID, picker)).select_by_value(value)


def drawn(browser) -> dict[str, dict[str, list]]:
    """What plotly has drawn, by curve."""
    traces = browser.execute_script(
        "return document.getElementById('chart-0').data.map(t => ({name: t.name, x: t.x, y: t.y, mode: t.mode,"
        " up: t.error_y && t.error_y.array, down: t.error_y && t.error_y.arrayminus, dash: t.line && t.line.dash}))"
    )
    return {trace["name"]: trace for trace in traces if trace["mode"] == "lines+markers"}


def test_page_asks_for_nothing_and_has_no_errors(page):
    choose(page, "measure", "bler")
    assert page.get_log("browser") == []
    events = [json.loads(entry["message"])["message"] for entry in page.get_log("performance")]
    asked = [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]
    assert asked
    assert [url for url in asked if not url.startswith(("file://", "data:", "blob:"))] == []


def test_plots_show_the_numbers_of_the_chosen_measure(page, reported):
    run = read_run(reported)
    for measure in ("psnr_db", "frame_loss", "label", "bler"):
        choose(page, "measure", measure)
        shown = drawn(page)
        logarithmic = page.execute_script("return document.getElementById('chart-0').layout.yaxis.type") == "log"
        assert logarithmic == (measure == "bler")
        for line in run.lines:
            found = [line.estimate(snr, measure) for snr in line.snrs]
            if all(math.isnan(estimate.value) for estimate in found):
                assert line.curve not in shown
                continue
            trace = shown[line.curve]
            assert trace["x"] == list(line.snrs)
            for estimate, value, up, down in zip(found, trace["y"], trace["up"], trace["down"], strict=True):
                if math.isnan(estimate.value) or (logarithmic and estimate.value == 0):
                    assert value is None
                else:
                    assert value == pytest.approx(estimate.value)
                    assert (value - down, value + up) == pytest.approx((estimate.low, estimate.high))


def test_a_rate_of_zero_is_an_arrow_on_a_logarithmic_axis(page, reported):
    (bits,) = [line for line in read_run(reported).lines if line.curve == BITS]
    assert bits.estimate(8.0, "bler").value == 0
    choose(page, "measure", "bler")
    arrows = page.execute_script(
        "return document.getElementById('chart-0').data.filter(t => t.mode === 'markers').map(t => [t.name, t.x, t.y])"
    )
    (arrow,) = [arrow for arrow in arrows if arrow[0] == BITS]
    assert arrow[2][arrow[1].index(8)] == pytest.approx(bits.estimate(8.0, "bler").high)


def test_imported_curves_are_dashed_and_names_are_text(page):
    shown = drawn(page)
    assert (shown["paper"]["dash"], shown[OURS]["dash"]) == ("dash", "solid")
    buttons = page.execute_script(
        "return [...document.querySelectorAll('#legend button span')].map(b => b.textContent)"
    )
    assert buttons == [OURS, WEBP, BITS, "paper (imported)"]
    assert page.execute_script("return document.querySelectorAll('#failed ~ .scroll td')[4].textContent") == FAILURE


def test_a_click_hides_a_curve_in_plot_and_table(page):
    head = f"return [...{TABLE}.querySelectorAll('thead th:not([hidden])')].map(cell => cell.textContent)"
    assert page.execute_script(head) == ["Es/N0 [dB]", OURS, WEBP, "paper"]
    page.execute_script(f"document.querySelector('#legend button[data-curve={json.dumps(WEBP)}]').click()")
    assert set(drawn(page)) == {OURS, "paper"}
    assert page.execute_script(head) == ["Es/N0 [dB]", OURS, "paper"]
    cells = f"return [...{TABLE}.querySelectorAll('tbody tr')].map(row => [...row.cells].filter(c => !c.hidden).length)"
    assert page.execute_script(cells) == [3, 3, 3]


def test_table_and_standing_agree_with_the_data(page, reported):
    (ours, webp, _) = read_run(reported).lines
    cells = page.execute_script(
        f"return [...{TABLE}.querySelectorAll('tbody tr')].map(r => [...r.cells].map(c => c.firstChild.data))"
    )
    values = [[figure(line.estimate(snr, "psnr_db").value) or "–" for line in (ours, webp)] for snr in ours.snrs]
    assert [row[:3] for row in cells] == [[f"{snr:g}", *row] for snr, row in zip(ours.snrs, values, strict=True)]
    # The ranking and the table.
    assert page.execute_script("return document.querySelectorAll('[data-measure]:not([hidden]) h3').length") == 2
    text = page.execute_script("return document.querySelector('[data-measure=psnr_db]').innerText")
    assert "Against the best of the others, ours is" in text
    assert OURS in text


def test_pictures_are_seen_at_the_chosen_snr(page):
    choose(page, "picture-snr", "8.0")
    seen = page.execute_script(
        "return [...document.querySelectorAll('.pictures img')].filter(i => i.offsetParent && i.naturalWidth > 0)"
        ".map(i => i.alt)"
    )
    assert len(seen) == 3 * KEPT
    assert sum(alt.endswith("as sent") for alt in seen) == KEPT
    caption = page.execute_script("return document.querySelector('.pictures tbody:not([hidden]) ~ tbody td').innerText")
    assert re.search(r"\d\.\d dB, MS-SSIM 0\.\d{3}", caption)


@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_sticks_out_of_the_window(page, width):
    resize(page, width, 844)
    page.refresh()
    wait_until(page, "return document.querySelector('#chart-0 .plot-container') !== null")
    wide, box = page.execute_script(
        "return [document.documentElement.scrollWidth, document.getElementById('chart-0').offsetWidth]"
    )
    assert wide <= width
    assert width / 3 < box <= width
