"""Excerpts in the real formats of every set become what is expected of them; real tables have their counts."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from mammo_tests.converted import converted, in_order, rows_of, written
from mammo_tests.excerpts import MAKERS, make, write_xlsx
from schemas.config.run import RunConfig
from schemas.errors import ConfigError, DatasetError
from tasks.adapters.datasets.catalogue import DATA_SETS

DATA = Path(os.environ.get("MAMMO_REFERENCE_DATA", "../shared/data"))


def test_every_set_has_an_excerpt() -> None:
    """A set that nobody tries may be one that cannot be read."""
    assert sorted(DATA_SETS) == sorted(MAKERS)


@pytest.mark.parametrize("name", MAKERS)
def test_an_excerpt_becomes_what_is_expected(name: str, tmp_path: Path) -> None:
    """Images, what is left out, breasts, lesions, counts and rules are those of the expected answer; ROOT is as before."""
    root, target = tmp_path / "set", tmp_path / "out"
    want = make(name, root)
    before = digests(root)
    report = converted(name, root, target)
    assert digests(root) == before
    got = written(target)
    for what in ("images", "left_out", "breasts", "lesions"):
        assert in_order(got[what]) == in_order(want[what]), what
    assert report["counts"] == want["counts"]
    found = dict(report["faults"])
    assert {rule: found.get(rule) for rule in want["faults"]} == want["faults"]
    assert {rule for rule in found if rule not in want["faults"]} <= {"breast without an overlay, cancer: 0/0"}
    RunConfig.model_validate(yaml.safe_load((target / "config.yaml").read_text()))
    assert json.loads((target / "report.json").read_text()) == report
    assert not [path.name for path in tmp_path.iterdir() if path not in (root, target)]


def digests(root: Path) -> dict[str, str]:
    """Every file below a folder."""
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in root.rglob("*")
        if path.is_file()
    }


def save_otherwise(path: Path) -> None:
    """Every line twice, CR LF, all quoted, headings in capitals, columns the other way round, blanks, empty lines."""
    text = path.read_text("utf-8")
    first = text.partition("\n")[0]
    header, *lines = csv.reader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=first.count))
    with path.open("w", newline="", encoding="utf-8-sig") as file:
        out = csv.writer(file, delimiter=";", quoting=csv.QUOTE_ALL, lineterminator="\r\n")
        out.writerows([[], [f" {name.upper()} " for name in header[::-1]]])
        for line in lines:
            out.writerows([[f"{cell} " for cell in line[::-1]]] * 2 + [[], [""] * len(line)])


@pytest.mark.parametrize("name", MAKERS)
def test_a_table_that_was_saved_otherwise_says_the_same(name: str, tmp_path: Path) -> None:
    """What a program changes of a table without changing what it says changes nothing; lines that stand twice are counted."""
    root, target = tmp_path / "set", tmp_path / "out"
    want = make(name, root)
    tables = sorted(root.rglob("*.csv"))
    for path in tables:
        save_otherwise(path)
    report = converted(name, root, target)
    got = written(target)
    for what in ("images", "left_out", "breasts", "lesions"):
        assert in_order(got[what]) == in_order(want[what]), what
    read = [path for path in tables if any(fault.startswith(f"line of {path.name}") for fault in report["faults"])]
    assert read or not tables or name in {"cmmd", "mini-mias"}  # cmmd reads its spreadsheet


def test_an_image_that_is_named_twice_otherwise_is_refused(tmp_path: Path) -> None:
    """Two lines that contradict each other: nobody can tell which is right."""
    root, target = tmp_path / "set", tmp_path / "out"
    make("rsna-2022", root)
    table = root / "train.csv"
    first = table.read_text().splitlines()[1]
    table.write_text(table.read_text() + first.replace(",L,", ",R,") + "\n")
    with pytest.raises(DatasetError, match=r"name 1 images twice.*two for train_images/90001/100011\.dcm"):
        converted("rsna-2022", root, target)
    assert not target.exists()


@pytest.mark.parametrize(
    ("name", "file"), [("mini-mias", "Info.txt"), ("ddsm", "B-9013-1.ics"), ("omi-db", "nbss_demd9001.json")]
)
def test_a_file_that_may_not_be_read_is_said(name: str, file: str, tmp_path: Path) -> None:
    """A link that leads in a circle, as what nobody may read: a sentence that names it, whatever reads it."""
    root, target = tmp_path / "set", tmp_path / "out"
    make(name, root)
    path = next(root.rglob(file))
    path.unlink()
    path.symlink_to(path.name)
    with pytest.raises(DatasetError, match=path.name.replace(".", r"\.")):
        converted(name, root, target)
    assert not target.exists()


def test_a_half_download_of_a_set_without_counts_is_counted(tmp_path: Path) -> None:
    """KAU-BCMD's copy is smaller than what was published, so no count tells: its table names each image."""
    root, target = tmp_path / "set", tmp_path / "out"
    make("kau-bcmd", root)
    assert "image that the table names" not in " ".join(converted("kau-bcmd", root, target)["faults"])
    next(root.rglob("*_R.jpg")).unlink()
    assert converted("kau-bcmd", root, target)["faults"]["image that the table names and that is not here"] == 1


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("spoil", ["heading alone", "cut", "nothing there"])
def test_what_is_lost_of_every_set_is_said(name: str, spoil: str, tmp_path: Path) -> None:
    """Tables without rows, cut in the middle, or none of the set's files at all: a sentence with where to get them, no output.

    Also where a part is meant: it is smaller, not silent.
    """
    root, target = tmp_path / "set", tmp_path / "out"
    make(name, root)
    endings = {".csv", ".xlsx", ".ics", ".txt"} if spoil != "nothing there" else None
    for path in sorted(path for path in root.rglob("*") if path.is_file()):
        if endings is None:
            path.unlink()
        elif path.suffix in endings:
            content = path.read_bytes()
            head = content.index(b"\n") + 1 if b"\n" in content else 0
            path.write_bytes(content[:head] if spoil == "heading alone" else content[: len(content) // 2].rstrip(b"\r\n"))
    if name == "omi-db" and endings:
        return  # it has no table
    if name in {"mini-mias", "ddsm"} and spoil == "cut":  # free text: what is left of it is read, and counts differ
        report = converted(name, root, target)
        assert not all(each["equal"] for each in report["published"])
        assert any(
            fault.startswith(("film that Info.txt does not name", "case whose .ics names")) for fault in report["faults"]
        )
        return
    with pytest.raises(DatasetError) as refused:
        converted(name, root, target)
        if spoil == "cut":
            converted(name, root, target, is_partial=False)
    assert DATA_SETS[name].facts.get in str(refused.value)


def test_two_conversions_are_the_same_bytes(tmp_path: Path) -> None:
    """Copies too: no time and no random number is in them. A second run replaces the first, and leaves a workspace alone."""
    root, target = tmp_path / "set", tmp_path / "out"
    make("mini-mias", root)
    converted("mini-mias", root, target)
    (target / "workspace").mkdir()
    (target / "workspace" / "kept").touch()
    first = digests(target)
    converted("mini-mias", root, target)
    assert digests(target) == first
    assert "dicom/mdb901.pgm.dcm" in first


def test_masks_hold_the_classes_of_their_marks(tmp_path: Path) -> None:
    """Bit 0 is benign, bit 1 malignant, inside the box of each mark; a mark without a class is in no mask."""
    root, target = tmp_path / "set", tmp_path / "out"
    make("mini-mias", root)
    converted("mini-mias", root, target)
    boxes = [row for row in rows_of(target / "boxes.csv") if row["path"] == "mdb906.pgm"]
    mask_HW = cv2.imread(str(target / "masks" / f"{boxes[0]['sop_instance_uid']}.png"), cv2.IMREAD_UNCHANGED)
    assert mask_HW is not None
    for row, bit in zip(boxes, (1, 2), strict=True):
        rows, columns = np.nonzero(mask_HW & bit)
        assert (rows.min(), rows.max() + 1) == (int(row["ymin"]), int(row["ymax"]))
        assert (columns.min(), columns.max() + 1) == (int(row["xmin"]), int(row["xmax"]))


def test_an_official_split_keeps_its_test_set_whole(tmp_path: Path) -> None:
    """A patient in both parts trains by default and tests if the official split is asked for; `own` writes none."""
    root = tmp_path / "set"
    make("cbis-ddsm", root)
    found = {}
    for split in ("deleaked", "official", "own"):
        converted("cbis-ddsm", root, tmp_path / split, split=split)
        found[split] = {row["patient_id"]: row["split"] for row in rows_of(tmp_path / split / "split.csv")}
    assert found["deleaked"]["P_90001"] == "train"
    assert found["official"] == found["deleaked"] | {"P_90001": "test"}
    assert found["own"] == {}
    make("mini-mias", tmp_path / "mias")
    with pytest.raises(ConfigError, match="no official split"):
        converted("mini-mias", tmp_path / "mias", tmp_path / "out", split="official")


def test_policies_change_what_they_say(tmp_path: Path) -> None:
    """BI-RADS 4 counts as malignant where that is asked for; another key or value is refused with the known ones."""
    root = tmp_path / "set"
    make("vindr-mammo", root)
    assert converted("vindr-mammo", root, tmp_path / "a")["counts"]["malignant"] == 1
    assert converted("vindr-mammo", root, tmp_path / "b", "malignant_from=4")["counts"]["malignant"] == 2
    for wrong in ("malignant_from=3", "malignant=4", "malignant_from"):
        with pytest.raises(ConfigError, match="malignant_from=5 or 4"):
            converted("vindr-mammo", root, tmp_path / "c", wrong)


@pytest.mark.parametrize("name", MAKERS)
def test_a_folder_of_another_set_is_refused_in_a_sentence(name: str, tmp_path: Path) -> None:
    """The message names the missing file and where it is got; nothing is written."""
    root = tmp_path / "set"
    (root / "sub").mkdir(parents=True)
    (root / "sub" / "photo.jpg").write_bytes(b"no picture")
    with pytest.raises(DatasetError) as refused:
        converted(name, root, tmp_path / "out", is_partial=False)
    assert DATA_SETS[name].facts.get.split()[-1] in str(refused.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["set"]


def test_a_half_download_is_refused_and_counted_where_it_is_meant(tmp_path: Path) -> None:
    """Images of the tables that are not there: exit by their number, or left out with their reason under --partial."""
    root, target = tmp_path / "set", tmp_path / "out"
    want = make("rsna-2022", root)
    (root / want["images"][0]["path"]).unlink()
    with pytest.raises(DatasetError, match="1 of 14 images that the tables name"):
        converted("rsna-2022", root, target, is_partial=False)
    assert not target.exists()
    report = converted("rsna-2022", root, target)
    assert report["not_downloaded"] == 1
    assert report["counts"] == want["counts"], "of the tables"
    assert report["left_out"] == {"not CC or MLO": 1, "not downloaded": 1}


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (b"patient_id,", b"patient,", "no patient_id"),
        (b"90001,100011", b"9.0001E+04,100011", "rounded identifiers"),
        (b"site_id", "s\u00eet\u00e9".encode("latin-1"), "another encoding"),
    ],
    ids=["another release", "rounded", "another encoding"],
)
def test_a_table_that_was_saved_by_another_program_is_refused(old: bytes, new: bytes, said: str, tmp_path: Path) -> None:
    """What a spreadsheet does to a table is said, with the file's name; nothing is written."""
    root, target = tmp_path / "set", tmp_path / "out"
    make("rsna-2022", root)
    table = root / "train.csv"
    assert old in table.read_bytes()
    table.write_bytes(table.read_bytes().replace(old, new, 1))
    with pytest.raises(DatasetError, match=r"train\.csv") as refused:
        converted("rsna-2022", root, target)
    assert said in str(refused.value)
    assert not target.exists()


def test_a_date_of_another_form_is_refused(tmp_path: Path) -> None:
    """EMBED's days decide what belongs to a screening exam: a day that a program turned round would change labels."""
    root = tmp_path / "set"
    make("embed", root)
    table = root / "tables" / "EMBED_OpenData_clinical.csv"
    table.write_text(table.read_text().replace("2015-02-22", "22/02/2015"))
    with pytest.raises(DatasetError, match="holds dates of another form"):
        converted("embed", root, tmp_path / "out")


def test_a_damaged_image_leaves_nothing_behind(tmp_path: Path) -> None:
    """It is found when its mark is placed: what was written until then goes, and what an earlier run left stays."""
    root, target = tmp_path / "set", tmp_path / "out"
    want = make("vindr-mammo", root)
    converted("vindr-mammo", root, target)
    before = digests(target)
    (root / want["lesions"][-1]["path"]).write_bytes(b"")
    with pytest.raises(DatasetError, match="cannot be read"):
        converted("vindr-mammo", root, target)
    assert digests(target) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "set"]


def test_the_output_is_apart_from_the_set_and_from_other_things(tmp_path: Path) -> None:
    """Inside ROOT, a file, or a folder that holds something else: refused before anything is read."""
    root = tmp_path / "set"
    make("kau-bcmd", root)
    (tmp_path / "file").touch()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").touch()
    for target in (root / "out", tmp_path / "file", tmp_path / "mine"):
        with pytest.raises(ConfigError):
            converted("kau-bcmd", root, target)
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize(("name", "folder"), [("cbis-ddsm", "csv/cbis-ddsm"), ("cmmd", "csv/cmmd")])
def test_real_tables_have_their_published_counts(name: str, folder: str, tmp_path: Path) -> None:
    """Every count of the tables is the published one, read from tables alone."""
    root = DATA / folder
    if not root.is_dir():
        pytest.skip("the real tables are not at hand")
    report = converted(name, root, tmp_path / "out")
    compared = [each for each in report["published"] if each["compared"]]
    assert len(compared) >= 9
    assert [each for each in compared if not each["equal"]] == []


def test_tables_alone_give_every_label(tmp_path: Path) -> None:
    """Without one image the real tables of CBIS-DDSM still label their 1,708 breasts and divide their 1,566 patients."""
    root, target = DATA / "csv/cbis-ddsm", tmp_path / "out"
    if not root.is_dir():
        pytest.skip("the real tables are not at hand")
    report = converted("cbis-ddsm", root, target)
    got = written(target)
    assert (len(got["breasts"]), got["images"], report["not_downloaded"]) == (1708, [], 3032)
    split = [row["split"] for row in rows_of(target / "split.csv")]
    assert (split.count("train"), split.count("test")) == (1248, 318)
    assert report["left_out"] == {"not downloaded": 3032, "same film as another": 71}
    counted = [report["counts"][name] for name in ("images", "patients", "malignant", "benign")]
    assert counted == [3032, 1566, 761, 967]


def test_a_count_that_differs_is_said(tmp_path: Path) -> None:
    """Three rows are not a set's thousands: each number stands beside what was found, and counts of files are not compared."""
    root = tmp_path / "set"
    make("cmmd", root)
    report = converted("cmmd", root, tmp_path / "out")
    by_name = {each["name"]: each for each in report["published"]}
    assert (by_name["rows"]["found"], by_name["rows"]["equal"], by_name["rows"]["compared"]) == (5, False, True)
    assert not by_name["images"]["compared"]
    assert "| rows **differs** | 1872 | 5 |" in (tmp_path / "out" / "report.md").read_text()


def test_labels_of_doubted_sides_are_empty_unless_asked_for(tmp_path: Path) -> None:
    """CMMD's 16 patients with wrongly written sides: 17 rows, 12 malignant and 5 benign, of the real table."""
    root = DATA / "csv/cmmd"
    if not root.is_dir():
        pytest.skip("the real tables are not at hand")
    checked = converted("cmmd", root, tmp_path / "out")
    as_written = converted("cmmd", root, tmp_path / "other", "sides=as-written")
    rule = "side or view is written wrongly: label not known"
    assert (checked["faults"][rule], as_written["faults"].get(rule, 0)) == (17, 0)


def test_what_readers_call_normal_counts_only_if_asked_for(tmp_path: Path) -> None:
    """CMMD's breasts without a clinical row: 0/0 with the policy; a biopsy's row stays; a table that lacks is said."""
    root = tmp_path / "set"
    make("cmmd", root)
    with pytest.raises(DatasetError, match=r"needs TOMPEI-CMMD_clinical_data_v01_20250121\.xlsx"):
        converted("cmmd", root, tmp_path / "out", "tompei=yes")
    readings = [["ID", "LeftRight", "BI-RADS\nCategory", "classification"], ["", "", "(1 to 5)", ""]]
    readings += [["D2-9001", "R", "1", "Normal"], ["D2-9002", "L", "1", "Invisible"], ["D2-9001", "L", "1", "Normal"]]
    sheets = {"README": [["ID of nothing"]], "Imaging Diagnosis Details Sheet": readings}
    write_xlsx(root / "TOMPEI-CMMD_clinical_data_v01_20250121.xlsx", sheets)
    plain, asked = (converted("cmmd", root, tmp_path / "out", f"tompei={value}") for value in ("no", "yes"))
    rule = "breast without a clinical row: not known"
    assert (plain["faults"][rule], asked["faults"][rule]) == (2, 1)
    said = {(row["patient_id"], row["laterality"]): row for row in rows_of(tmp_path / "out" / "labels.csv")}
    right, left = said["D2-9001", "R"], said["D2-9001", "L"]
    assert (right["benign"], right["malignant"], right["label_source"]) == ("0", "0", "annotator")
    assert (left["malignant"], left["label_source"]) == ("1", "biopsy")
    assert ("D2-9002", "L") not in said


def test_terms_that_forbid_passing_on_go_with_the_data(tmp_path: Path) -> None:
    """EMBED's weights must not be released: report and config say it; CMMD may be passed on, and theirs say nothing."""
    for name, said in (("embed", "forbid passing on data and weights"), ("cmmd", "")):
        make(name, tmp_path / name)
        converted(name, tmp_path / name, tmp_path / f"{name}-out")
        config = RunConfig.model_validate(yaml.safe_load((tmp_path / f"{name}-out" / "config.yaml").read_text()))
        page = (tmp_path / f"{name}-out" / "report.md").read_text()
        assert bool(config.ingest.terms) is bool(said)
        assert said in config.ingest.terms and ("forbid" in page) is bool(said)


def test_a_file_that_no_table_names_is_left_out_by_name(tmp_path: Path) -> None:
    """A DICOM file without a row is in the list with that reason; masks and crops of CBIS-DDSM are no images."""
    root, target = tmp_path / "set", tmp_path / "out"
    want = make("rsna-2022", root)
    other = root / "train_images" / "90001" / "77.dcm"
    other.write_bytes((root / want["images"][0]["path"]).read_bytes())
    report = converted("rsna-2022", root, target)
    assert report["left_out"] == {"not CC or MLO": 1, "no row in the set's tables": 1}
    assert [row["path"] for row in rows_of(target / "subjects.csv") if "tables" in row["left_out"]] == [
        "train_images/90001/77.dcm"
    ]


EMBED_HEADER = "empi_anon,acc_anon,study_date_anon,desc,tissueden,asses,side,bside,path_severity,massshape"


@pytest.mark.parametrize(
    ("rows", "left", "right"),
    [
        (["2015-02-22,MG Screening Bilateral,2,N,B,,,"], (0, 0, "birads_proxy", 1), (0, 0, "birads_proxy", 1)),
        (
            ["2015-02-22,MG Screening Bilateral,2,A,L,,,", "2015-04-01,MG Diagnostic Left,2,S,L,L,1,"],
            (0, 1, "biopsy", 0), (0, 0, "birads_proxy", 1),
        ),
        (
            ["2015-02-22,MG Screening Bilateral,2,A,L,,,", "2015-04-01,US Breast Left,2,B,L,,,"],
            (0, 0, "followup", 0), (0, 0, "birads_proxy", 1),
        ),
        (
            ["2015-02-22,MG Screening Bilateral,2,A,L,,,", "2015-12-01,MG Diagnostic Left,2,S,L,L,1,"],
            (None, None, "birads_proxy", 0), (0, 0, "birads_proxy", 1),
        ),
        (
            ["2015-02-22,MG Screening Bilateral,2,B,L,,,", "2015-12-01,MG Diagnostic Left,2,S,L,L,1,"],
            (0, 1, "biopsy", 2), (0, 0, "birads_proxy", 1),
        ),
        (
            ["2015-02-22,MG Screening Bilateral,2,N,L,L,0,", "2015-02-22,MG Screening Bilateral,2,N,L,L,3,"],
            (1, 1, "biopsy", 0), (0, 0, "birads_proxy", 1),
        ),
        (["2015-02-22,MG Screening Bilateral,2,A,L,L,5,"], (None, None, "biopsy", 0), (0, 0, "birads_proxy", 1)),
        (["2015-02-22,MG Screening Bilateral,2,A,L,R,0,"], (None, None, "biopsy", 0), (None, None, "biopsy", 1)),
        (
            ["2015-02-22,MG Screening Bilateral,2,N,B,,,", "2015-12-01,MG Diagnostic Left,2,S,L,R,1,"],
            (None, None, "biopsy", 1), (None, None, "biopsy", 1),
        ),
        (["2015-02-22,MG Screening Left,2,P,L,,,"], (None, None, "birads_proxy", 3), None),
    ],
    ids=[
        "read negative", "recalled and malignant", "recalled and resolved", "recalled, too late", "interval cancer",
        "addended, both kinds", "neither kind", "other breast", "other breast, months later", "one side",
    ],
)  # fmt: skip
def test_embed_s_breasts_are_labelled_by_pathology_first(
    rows: list[str], left: tuple[object, ...], right: tuple[object, ...] | None, tmp_path: Path
) -> None:
    """This exam's pathology, then that of a diagnostic exam in time; else how a recall ended, else a negative reading."""
    root, target = tmp_path / "set", tmp_path / "out"
    make("embed", root)
    lines = [f"90000001,{9000000000000001 + (0 if 'Screening' in row else 2)},{row}" for row in rows]
    (root / "tables" / "EMBED_OpenData_clinical.csv").write_text("\n".join([EMBED_HEADER, *lines]) + "\n")
    converted("embed", root, target)
    found = {
        each["laterality"]: tuple(each[name] for name in ("benign", "malignant", "label_source", "birads"))
        for each in written(target)["breasts"]
    }
    assert (found["L"], found.get("R")) == (left, right)


def test_embed_s_boxes_are_mirrored_back_on_right_images(tmp_path: Path) -> None:
    """The picture of an image whose rows run to the back had been turned: its columns count from the other edge."""
    root, target = tmp_path / "set", tmp_path / "out"
    make("embed", root)
    table = root / "tables" / "EMBED_OpenData_metadata.csv"
    table.write_text(table.read_text().replace(",0,(),(),", ',1,"((10, 5, 30, 25),)",(1),'))
    converted("embed", root, target)
    boxes = {(each["left"], each["right"]): each["path"] for each in written(target)["lesions"]}
    assert set(boxes) == {(5, 25), (55, 75)}
    assert {each["finding"] for each in written(target)["lesions"]} == {"malignant", None}
