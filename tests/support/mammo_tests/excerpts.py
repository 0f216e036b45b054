"""Writes small trees in the real formats of public mammography sets, and what an adapter must make of each.

Everything is made up; only names of columns, files and values are those of the sets. Kept as it was made: ruff leaves it alone.
"""
from __future__ import annotations

import csv
import json
import plistlib
import zipfile
from collections import Counter
from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np
from PIL import Image

from mammo_tests.excerpt_images import MG, ORIENTATION, SC, VIEWS, breast, header, hex_id, save, uid, view_code

MAKERS = {}


def maker(name):
    def keep(function):
        MAKERS[name] = function
        return function

    return keep


class Expected:
    """What the adapter must yield. Paths are below the set's root; None = not known."""

    def __init__(self, dataset):
        self.value = {"dataset": dataset, "images": [], "left_out": [], "breasts": [], "lesions": [], "faults": {}}

    def image(self, path, patient, exam, side, view, acquisition="ffdm", split=None):
        self.value["images"].append(dict(path=path, patient=patient, exam=exam, laterality=side, view=view, acquisition=acquisition, split=split))

    def leave_out(self, path, why):
        self.value["left_out"].append(dict(path=path, why=why))

    def breast(self, patient, exam, side, benign, malignant, source, birads=None, density=None, finding_type=None):
        self.value["breasts"].append(dict(patient=patient, exam=exam, laterality=side, benign=benign, malignant=malignant,
                                          label_source=source, birads=birads, density=density, finding_type=finding_type))

    def lesion(self, path, finding, top, bottom, left, right, shape):
        """Half-open rows and columns of the DICOM image, after clipping."""
        self.value["lesions"].append(dict(path=path, finding=finding, shape=shape, top=top, bottom=bottom, left=left, right=right))

    def fault(self, name, count=1):
        self.value["faults"][name] = self.value["faults"].get(name, 0) + count

    def done(self):
        images, breasts = self.value["images"], self.value["breasts"]
        self.value["counts"] = dict(
            images=len(images), patients=len({i["patient"] for i in images}), exams=len({(i["patient"], i["exam"]) for i in images}),
            left_out=len(self.value["left_out"]), breasts_labelled=len(breasts),
            malignant=sum(b["malignant"] == 1 for b in breasts), benign=sum(b["benign"] == 1 for b in breasts),
            unknown=sum(b["malignant"] is None for b in breasts), lesions=len(self.value["lesions"]),
            by_split=dict(Counter(i["split"] for i in images if i["split"])))
        return self.value


def write_csv(path, header_row, rows, *, delimiter=",", newline="\n"):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        out = csv.writer(file, delimiter=delimiter, lineterminator=newline)
        out.writerow(header_row)
        out.writerows(rows)


def write_xlsx(path, sheets):
    """The least that a spreadsheet must hold: texts inline, numbers as numbers."""
    path.parent.mkdir(parents=True, exist_ok=True)
    main = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    office = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    package = "http://schemas.openxmlformats.org/package/2006"
    kind = "application/vnd.openxmlformats-officedocument.spreadsheetml"
    numbers = range(1, len(sheets) + 1)
    with zipfile.ZipFile(path, "w") as book:
        parts = [f'<Override PartName="/xl/worksheets/sheet{n}.xml" ContentType="{kind}.worksheet+xml"/>' for n in numbers]
        parts += [f'<Override PartName="/xl/workbook.xml" ContentType="{kind}.sheet.main+xml"/>',
                  f'<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>']
        book.writestr("[Content_Types].xml", f'<Types xmlns="{package}/content-types">{"".join(parts)}</Types>')
        book.writestr("_rels/.rels", f'<Relationships xmlns="{package}/relationships"><Relationship Id="rId1" Type="{office}/officeDocument" '
                                     'Target="xl/workbook.xml"/></Relationships>')
        names = [f'<sheet name="{title}" sheetId="{n}" r:id="rId{n}"/>' for n, title in zip(numbers, sheets)]
        book.writestr("xl/workbook.xml", f'<workbook xmlns="{main}" xmlns:r="{office}"><sheets>{"".join(names)}</sheets></workbook>')
        links = [f'<Relationship Id="rId{n}" Type="{office}/worksheet" Target="worksheets/sheet{n}.xml"/>' for n in numbers]
        book.writestr("xl/_rels/workbook.xml.rels", f'<Relationships xmlns="{package}/relationships">{"".join(links)}</Relationships>')
        for n, rows in zip(numbers, sheets.values()):
            lines = [f'<row r="{r}">{"".join(cell(r, c, value) for c, value in enumerate(row))}</row>' for r, row in enumerate(rows, start=1)]
            book.writestr(f"xl/worksheets/sheet{n}.xml", f'<worksheet xmlns="{main}"><sheetData>{"".join(lines)}</sheetData></worksheet>')


def cell(row, column, value):
    place = f"{chr(ord('A') + column)}{row}"
    if value is None or value == "":
        return ""
    if isinstance(value, (int, float)):
        return f'<c r="{place}"><v>{value}</v></c>'
    return f'<c r="{place}" t="inlineStr"><is><t xml:space="preserve">{escape(value)}</t></is></c>'


def part(fraction, length):
    return round(fraction * length)


# ------------------------------------------------------------------------------------------------------------ CBIS-DDSM
@maker("cbis-ddsm")
def cbis_ddsm(root, shape):
    """Traps: two CSV headers, a line break inside a path, mass and calc folders of one film, a patient in both official splits,
    crop and mask in either order or in two series, a mask of another size, density 0, assessment 0, two abnormalities."""
    want = Expected("cbis-ddsm")
    rows, cols = shape
    # (set, split, patient, side, view, abnormality, pathology, assessment, density, shape-or-type, order, box fractions)
    table = [
        ("mass", "train", "P_90001", "LEFT", "CC", 1, "MALIGNANT", 5, 3, "IRREGULAR", "crop first", (0.40, 0.50, 0.20, 0.35)),
        ("mass", "train", "P_90001", "LEFT", "MLO", 1, "MALIGNANT", 5, 3, "IRREGULAR", "mask first", (0.45, 0.55, 0.25, 0.40)),
        ("calc", "test", "P_90001", "LEFT", "CC", 1, "BENIGN", 3, 3, "PLEOMORPHIC", "two series", (0.60, 0.66, 0.10, 0.18)),
        ("calc", "test", "P_90001", "LEFT", "CC", 2, "BENIGN", 2, 3, "PUNCTATE", "crop first", (0.30, 0.36, 0.30, 0.40)),
        ("mass", "train", "P_90002", "RIGHT", "MLO", 1, "BENIGN_WITHOUT_CALLBACK", 2, 0, "OVAL", "crop first", (0.50, 0.60, 0.70, 0.85)),
        ("mass", "test", "P_90003", "RIGHT", "CC", 1, "MALIGNANT", 0, 2, "ARCHITECTURAL_DISTORTION", "other size", (0.35, 0.50, 0.60, 0.80)),
        ("calc", "train", "P_90004", "LEFT", "CC", 1, "BENIGN", 4, 1, "N/A", "crop first", (0.40, 0.50, 0.30, 0.45)),
    ]
    mass_header = ["patient_id", "breast_density", "left or right breast", "image view", "abnormality id", "abnormality type", "mass shape",
                   "mass margins", "assessment", "pathology", "subtlety", "image file path", "cropped image file path", "ROI mask file path"]
    calc_header = ["patient_id", "breast density", "left or right breast", "image view", "abnormality id", "abnormality type", "calc type",
                   "calc distribution", "assessment", "pathology", "subtlety", "image file path", "cropped image file path", "ROI mask file path"]
    lines = {(kind, split): [] for kind in ("mass", "calc") for split in ("train", "test")}
    folder_number = 10000
    images = {}
    for kind, split, patient, side, view, abnormality, pathology, assessment, density, look, order, box in table:
        prefix = f"{kind.title()}-{'Training' if split == 'train' else 'Test'}"
        name = f"{prefix}_{patient}_{side}_{view}"
        roi = f"{name}_{abnormality}"
        top, bottom, left, right = part(box[0], rows), part(box[1], rows), part(box[2], cols), part(box[3], cols)
        if name not in images:
            folder_number += 1
            path = f"CBIS-DDSM/{name}/08-07-2016-DDSM-NA-{folder_number}/1.000000-full mammogram images-NA-{folder_number + 20000}/1-1.dcm"
            film = breast(shape, side[0], (patient, side, view), top=60000)  # the same film in the mass and in the calc set
            dataset = header(uid("cbis", name), SC, SpecificCharacterSet="ISO_IR 100", StudyDate="20160807", Modality="MG", ConversionType="WSD",
                             SeriesDescription="full mammogram images", PatientName=name, PatientID=name, BodyPartExamined="BREAST",
                             StudyInstanceUID=uid("cbis", name, "study"), SeriesInstanceUID=uid("cbis", name, "series"), StudyID="DDSM",
                             SeriesNumber=1, InstanceNumber=1, PatientOrientation=view, Laterality=side[0])
            save(dataset, root / path, film)
            images[name] = (path, film, kind, split, patient, side, view)
        path, film = images[name][:2]
        mask_shape = (rows + 8, cols) if order == "other size" else shape
        mask = np.zeros(mask_shape, np.uint8)
        mask[top:bottom, left:right] = 255
        crop = film[top:bottom, left:right]
        places = {"crop first": (("cropped images", 1, 1, crop), ("ROI mask images", 1, 2, mask)),
                  "other size": (("cropped images", 1, 1, crop), ("ROI mask images", 1, 2, mask)),
                  "mask first": (("ROI mask images", 1, 1, mask), ("cropped images", 1, 2, crop)),
                  "two series": (("cropped images", 1, 1, crop), ("ROI mask images", 2, 1, mask))}[order]
        folder_number += 1
        for description, series, number, pixels in places:
            sop = uid("cbis", roi, description)
            dataset = header(sop, SC, StudyDate="20160807", Modality="MG", SeriesDescription=description, PatientName=roi, PatientID=roi,
                             StudyInstanceUID=uid("cbis", roi, "study", series), SeriesInstanceUID=uid("cbis", roi, "series", series), SeriesNumber=series,
                             InstanceNumber=number, PatientOrientation=view, Laterality=side[0])
            # one series holds both files and carries the description of its first, as NBIA's folders do
            folder = description if order == "two series" else places[0][0]
            save(dataset, root / f"CBIS-DDSM/{roi}/08-07-2016-DDSM-NA-{folder_number}/{series}.000000-{folder}-NA-{folder_number + 20000 + series}/1-{number}.dcm",
                 pixels, bits=8 * pixels.dtype.itemsize)
        numbers = {"crop first": (0, 1), "other size": (0, 1), "mask first": (1, 0), "two series": (0, 0)}[order]
        study, series = "1.3.6.1.4.1.9590.100.1.2." + uid(roi)[5:25], "1.3.6.1.4.1.9590.100.1.2." + uid(roi, 2)[5:25]
        crop_path, mask_path = f"{roi}/{study}/{series}/{numbers[0]:06d}.dcm", f"{roi}/{study}/{series}/{numbers[1]:06d}.dcm"
        paths = [f"{name}/{study}/{series}/000000.dcm", crop_path, mask_path]
        paths[2 if kind == "mass" else 1] += "\n"  # the real files have this line break: mass in the last column, calc in the one before
        looks = [look, "SPICULATED" if kind == "mass" else "CLUSTERED"]
        lines[kind, split].append([patient, density, side, view, abnormality, "mass" if kind == "mass" else "calcification", *looks, assessment, pathology, 4, *paths])
        finding = "malignant" if pathology == "MALIGNANT" else "benign"
        kept = next(p for n, (p, *rest) in images.items() if n.endswith(f"_{patient}_{side}_{view}"))  # the first of the twin films
        if order == "other size":
            want.fault("mask of another size than its image: not used")
        else:
            want.lesion(kept, finding, top, bottom, left, right, "mask")
    for (kind, split), data in lines.items():
        write_csv(root / f"{kind}_case_description_{split}_set.csv", mass_header if kind == "mass" else calc_header, data)
    # P_90001 is in train (mass) and in test (calc): official-deleaked keeps it in train
    for name, (path, _, kind, split, patient, side, view) in images.items():
        if name == "Calc-Test_P_90001_LEFT_CC":
            want.leave_out(path, "same film as Mass-Training_P_90001_LEFT_CC")
            continue
        want.image(path, patient, patient, side[0], view, "film", "train" if patient in ("P_90001", "P_90002", "P_90004") else "test")
    want.breast("P_90001", "P_90001", "L", 1, 1, "biopsy", 5, "c", "several")
    want.breast("P_90002", "P_90002", "R", 1, 0, "annotator", 2, None, "mass")
    want.breast("P_90003", "P_90003", "R", 0, 1, "biopsy", 0, "b", "distortion")
    want.breast("P_90004", "P_90004", "L", 1, 0, "biopsy", 4, "a", "calcification")
    want.fault("patient in both official splits: kept in train")
    want.fault("one film in the mass and in the calc set: one image, lesions of both")
    want.fault("density 0: not known")
    return want.done()


# ----------------------------------------------------------------------------------------------------------------- CMMD
@maker("cmmd")
def cmmd(root, shape):
    """Traps: rows name diseased breasts only, view only as a code, 16-bit twins, identical pixels in two patients; TOMPEI beside it."""
    want = Expected("cmmd")
    rows, cols = shape
    clinical = [["D1-9001", "R", 44, 2, "calcification", "Benign", ""], ["D1-9087", "L", 50, 2, "mass", "Benign", ""],
                ["D1-9087", "R", 50, 2, "both", "Malignant", ""], ["D2-9001", "L", 61, 2, "mass", "Malignant", "Luminal B"],
                ["D2-9002", "R", 39, 2, "mass", "Malignant", "triple negative"]]
    number = 49000
    for patient, sides in (("D1-9001", "R"), ("D1-9087", "LR"), ("D2-9001", "LR"), ("D2-9002", "RL")):
        number, k = number + 1, 0
        for side in sides:
            for view in ("CC", "MLO"):
                k += 1
                sop = uid("cmmd", patient, k)
                is_16 = patient == "D1-9087" and side == "L"
                dataset = header(sop, MG, SpecificCharacterSet="ISO_IR 100", ImageType=["DERIVED", "PRIMARY"], StudyDate="20100718", Modality="MG",
                                 PresentationIntentType="FOR PRESENTATION", Manufacturer="", PatientName=patient, PatientID=patient, PatientBirthDate="",
                                 PatientSex="F", PatientAge="050Y", BodyPartExamined="BREAST", PositionerType="MAMMOGRAPHIC",
                                 ImagerPixelSpacing=["0.094090909", "0.094090909"], StudyInstanceUID=uid("cmmd", patient), SeriesInstanceUID=uid("cmmd", patient, "e"),
                                 StudyID="", SeriesNumber=1, InstanceNumber=k, PatientOrientation=ORIENTATION[side, view], ImageLaterality=side, BurnedInAnnotation="NO",
                                 WindowCenter="32768" if is_16 else "128", WindowWidth="65536" if is_16 else "256", VOILUTFunction="SIGMOID", RescaleIntercept="0",
                                 RescaleSlope="1", RescaleType="US", LossyImageCompression="00", PresentationLUTShape="IDENTITY", AccessionNumber="", ViewCodeSequence=view_code(view))
                # D2-9002 R MLO holds the pixels of D2-9001 R MLO: TCIA does not know whose they are
                name = ("D2-9001", "R", "MLO") if (patient, side, view) == ("D2-9002", "R", "MLO") else (patient, side, view)
                pixels = breast(shape, side, name, top=60000 if is_16 else 250, dtype=np.uint16 if is_16 else np.uint8)
                path = f"CMMD/{patient}/07-18-2010-NA-NA-{number}/1.000000-NA-{number + 7}/1-{k}.dcm"
                save(dataset, root / path, pixels, bits=16 if is_16 else 8)
                if (patient, side, view) in (("D2-9001", "R", "MLO"), ("D2-9002", "R", "MLO")):
                    want.leave_out(path, "same pixels under two patients: neither is used")
                    continue
                want.image(path, patient, patient, side, view)
    head = ["ID1", "LeftRight", "Age", "number", "abnormality", "classification", "subtype"]
    write_xlsx(root / "CMMD_clinicaldata_revision.xlsx", {"Sheet1": [head, *[[v if v != "" else None for v in row] for row in clinical]]})
    write_csv(root / "CMMD_clinicaldata_revision.csv", head, clinical)
    want.breast("D1-9001", "D1-9001", "R", 1, 0, "biopsy", finding_type="calcification")
    want.breast("D1-9087", "D1-9087", "L", 1, 0, "biopsy", finding_type="mass")
    want.breast("D1-9087", "D1-9087", "R", 0, 1, "biopsy", finding_type="several")
    want.breast("D2-9001", "D2-9001", "L", 0, 1, "biopsy", finding_type="mass")
    want.breast("D2-9002", "D2-9002", "R", 0, 1, "biopsy", finding_type="mass")
    want.fault("breast without a clinical row: not known", 2)
    want.fault("same pixels under two patients: neither is used", 2)
    # TOMPEI-CMMD (analysis result): outlines of MLO lesions in DICOM pixels, one JSON per image; copies of macOS beside them
    outline = [(0.30, 0.40), (0.30, 0.55), (0.45, 0.55), (0.45, 0.40)]
    lesion = [dict(_id="a1", type="Draw", label="mass", color="#f00", cgPoints=[dict(x=x * cols, y=y * rows) for x, y in outline])]
    for place in ("TOMPEI-CMMD_v01_20250123/D2-9001_MLO_L_AnnotationFile.json", "__MACOSX/TOMPEI-CMMD_v01_20250123/._D2-9001_MLO_L_AnnotationFile.json"):
        target = root / "annotations" / place
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(json.dumps(lesion))
    want.lesion("CMMD/D2-9001/07-18-2010-NA-NA-49003/1.000000-NA-49010/1-2.dcm", "malignant", int(0.40 * rows), -int(-0.55 * rows // 1), int(0.30 * cols), -int(-0.45 * cols // 1), "polygon")
    return want.done()


# ----------------------------------------------------------------------------------------------------------- VinDr-Mammo
@maker("vindr-mammo")
def vindr(root, shape):
    """Traps: hexadecimal identifiers in the header too, two CC of one breast, boxes outside the image, findings without BI-RADS."""
    want = Expected("vindr-mammo")
    rows, cols = shape
    exams = [("a", "training", {"L": ("BI-RADS 1", "DENSITY C"), "R": ("BI-RADS 5", "DENSITY C")}),
             ("b", "test", {"L": ("BI-RADS 2", "DENSITY B"), "R": ("BI-RADS 4", "DENSITY C")}),
             ("c", "training", {"L": ("BI-RADS 3", "DENSITY A"), "R": ("BI-RADS 1", "DENSITY D")})]
    labels = {"BI-RADS 1": (0, 0), "BI-RADS 2": (1, 0), "BI-RADS 3": (None, None), "BI-RADS 4": (None, None), "BI-RADS 5": (None, 1)}
    breast_rows, finding_rows, meta_rows = [], [], []
    for letter, split, sides in exams:
        study, series = hex_id("vindr", letter), hex_id("vindr", letter, "series")
        for side, view in VIEWS:
            image = hex_id("vindr", letter, side, view)
            written = "CC" if (letter, side, view) == ("c", "L", "MLO") else view  # as in study dbca9d28... of the real file
            birads, density = sides[side]
            dataset = header(image, MG, StudyInstanceUID=study, SeriesInstanceUID=series, Modality="MG", PatientAge="053Y", ViewPosition=written, ImageLaterality=side,
                             ImagerPixelSpacing=["0.085", "0.085"], PixelSpacing=["0.085", "0.085"], WindowCenter="2047", WindowWidth="4096", RescaleIntercept="0", RescaleSlope="1",
                             PresentationLUTShape="INVERSE" if letter == "b" else "IDENTITY")
            pixels = breast(shape, side, image)
            path = f"images/{study}/{image}.dicom"
            save(dataset, root / path, 4095 - pixels if letter == "b" else pixels, 12, "MONOCHROME1" if letter == "b" else "MONOCHROME2")
            common = [study, series, image, side, written, rows, cols, birads, density]
            breast_rows.append([*common, split])
            meta_rows.append([image, series, 2047, 4096, "MONOCHROME1" if letter == "b" else "MONOCHROME2", "SIEMENS", "Mammomat Inspiration", "053Y"])
            if (letter, side) == ("c", "L"):
                want.leave_out(path, "two CC and no MLO of this breast: which is which is not known")
            else:
                want.image(path, study, study, side, view, "ffdm", "train" if split == "training" else "test")
            findings = {("a", "R", "CC"): [("['Mass']", "BI-RADS 5", -3.5, 0.20, 0.30, 0.45), ("['Suspicious Calcification', 'Mass']", "BI-RADS 4", 0.5, 0.5, 0.7, 0.75)],
                        ("b", "R", "MLO"): [("['Skin Thickening', 'Nipple Retraction']", "", 0.60, 0.60, 1.02, 0.80)]}.get((letter, side, view), [])
            for categories, finding_birads, x0, y0, x1, y1 in findings:
                xmin, ymin, xmax, ymax = (x0 if x0 < 0 else x0 * cols), y0 * rows, x1 * cols, y1 * rows
                finding_rows.append([*common, categories, finding_birads, f"{xmin:.10f}", f"{ymin:.10f}", f"{xmax:.10f}", f"{ymax:.10f}", split])
                top, bottom, left, right = int(ymin), -int(-ymax // 1), max(0, int(np.floor(xmin))), min(cols, -int(-xmax // 1))
                want.lesion(path, "malignant" if finding_birads == "BI-RADS 5" else None, top, bottom, left, right, "box")
                if xmin < 0 or xmax > cols:
                    want.fault("box outside its image: clipped")
            if not findings:
                finding_rows.append([*common, "['No Finding']", "", "", "", "", "", split])
        for side, (birads, density) in sides.items():
            if (letter, side) == ("c", "L"):
                continue  # none of its images is used
            benign, malignant = labels[birads]
            want.breast(study, study, side, benign, malignant, "birads_proxy", int(birads[-1]), density[-1].lower())
    write_csv(root / "breast-level_annotations.csv", ["study_id", "series_id", "image_id", "laterality", "view_position", "height", "width", "breast_birads", "breast_density", "split"], breast_rows)
    write_csv(root / "finding_annotations.csv", ["study_id", "series_id", "image_id", "laterality", "view_position", "height", "width", "breast_birads", "breast_density",
                                                 "finding_categories", "finding_birads", "xmin", "ymin", "xmax", "ymax", "split"], finding_rows)
    write_csv(root / "metadata.csv", ["SOP Instance UID", "Series Instance UID", "Window Center", "Window Width", "Photometric Interpretation", "Manufacturer", "Manufacturer's Model Name", "Patient's Age"], meta_rows)
    want.fault("two CC and no MLO of this breast: which is which is not known", 2)
    return want.done()


# ----------------------------------------------------------------------------------------------------------------- RSNA
@maker("rsna-2022")
def rsna(root, shape):
    """Traps: no side, view, SOP class or modality in the header, MONOCHROME1, doubled views, odd views, values above BitsStored, an empty image."""
    want = Expected("rsna-2022")
    # patient: site, age, density, implant, machine, {side: (cancer, biopsy, invasive, BIRADS, difficult)}, views
    table = {"90001": (2, "61.0", "", 0, 29, {"L": (0, 0, 0, "", False), "R": (1, 1, 1, "0.0", False)}, "L-CC L-MLO R-MLO R-CC"),
             "90002": (1, "55.0", "B", 1, 49, {"L": (0, 1, 0, "0.0", True), "R": (0, 0, 0, "1.0", False)}, "L-CC L-MLO L-MLO R-CC R-MLO"),
             "90003": (1, "", "D", 0, 49, {"L": (0, 0, 0, "2.0", False), "R": (0, 0, 0, "0.0", True)}, "L-CC L-MLO R-CC R-MLO R-AT")}
    lines = []
    for patient, (site, age, density, implant, machine, sides, views) in table.items():
        for k, (side, view) in enumerate(v.split("-") for v in views.split()):
            image = str(100000 * int(patient[-1]) + 137 * k + 11)
            sop = f"1.2.840.10009.1.2.3.{patient}.1.{image}"
            dataset = header(sop, None, ContentDate="20221118", ContentTime="183346.7", PatientID=patient, StudyInstanceUID=f"1.2.840.10009.1.2.3.{patient}",
                             SeriesInstanceUID=f"1.2.840.10009.1.2.3.{patient}.1", InstanceNumber=image, WindowCenter="2047", WindowWidth="4095", RescaleIntercept="0",
                             RescaleSlope="1", RescaleType="US", VOILUTFunction="LINEAR" if site == 1 else "SIGMOID", PixelIntensityRelationship="LOG", PixelIntensityRelationshipSign=1 if site == 2 else -1)
            pixels = breast(shape, side, image)
            is_inverted = site == 2
            if is_inverted:
                pixels = 4095 - pixels
            path = f"train_images/{patient}/{image}.dcm"
            save(dataset, root / path, pixels, 12, "MONOCHROME1" if is_inverted else "MONOCHROME2")
            cancer, biopsy, invasive, birads, difficult = sides[side]
            lines.append([site, patient, image, side, view, age, cancer, biopsy, invasive, birads, implant, density, machine, difficult])
            if view in ("CC", "MLO"):
                want.image(path, patient, patient, side, view)
            else:
                want.leave_out(path, "not CC or MLO")
        for side, (cancer, biopsy, invasive, birads, difficult) in sides.items():
            want.breast(patient, patient, side, int(biopsy and not cancer), cancer, "biopsy" if biopsy else "followup",
                        int(float(birads)) if birads else None, density.lower() or None)
    write_csv(root / "train.csv", ["site_id", "patient_id", "image_id", "laterality", "view", "age", "cancer", "biopsy", "invasive", "BIRADS", "implant", "density", "machine_id", "difficult_negative_case"], lines)
    return want.done()


# -------------------------------------------------------------------------------------------------------------- INbreast
def inbreast_xml(path, rois):
    path.parent.mkdir(parents=True, exist_ok=True)
    items = [dict(Area=1.0, Center="(0.0, 0.0, 0.0)", Dev=0.0, IndexInImage=k, Max=0.0, Mean=0.0, Min=0.0, Name=name, NumberOfPoints=len(points),
                  Point_mm=["(0.0, 0.0, 0.0)"] * len(points), Point_px=[f"({x:.6f}, {y:.6f})" for x, y in points], Total=0.0, Type=15 if len(points) > 1 else 19)
             for k, (name, points) in enumerate(rois)]
    path.write_bytes(plistlib.dumps({"Images": [dict(ImageIndex=0, NumberOfROIs=len(items), ROIs=items)]}))


def inbreast_image(root, shape, number, patient, side, view, study):
    written = {"MLO": "ML"}.get(view, view)  # file names say ML, the table says MLO
    dataset = header(uid("inbreast", number), MG, StudyDate="", Modality="MG", PresentationIntentType="FOR PRESENTATION", Manufacturer="SIEMENS", PatientID="removed",
                     PatientName="removed", StudyInstanceUID=uid("inbreast", study), SeriesInstanceUID=uid("inbreast", study, "e"))
    path = f"AllDICOMs/{number}_{patient}_MG_{side}_{written}_ANON.dcm"
    save(dataset, root / path, breast(shape, side, number, top=9000), 14)
    return path


INBREAST_HEADER = ["Patient ID", "Patient age", "Laterality", "View", "Acquisition date", "File Name", "ACR", "Bi-Rads"]


@maker("inbreast")
def inbreast(root, shape):
    """Traps: ';' and CRLF, patient only in the file name, ML for MLO, plist contours (x, y), XML of lesion images only."""
    want = Expected("inbreast")
    rows, cols = shape
    patient, number, lines, place = "90a1b2c3d4e5f601", 99000000, [], {}
    table = [("R", "CC", 2, "2"), ("L", "CC", 2, "5"), ("R", "MLO", 2, "2"), ("L", "MLO", 2, "5")]
    for side, view, acr, birads in table:
        number += 26
        place[side, view] = inbreast_image(root, shape, number, patient, side, view, "A")
        lines.append(["removed", "removed", side, view, "200801", number, acr, birads])
        want.image(place[side, view], patient, f"{patient}_200801", side, view)
        if (side, view) == ("L", "CC"):
            inbreast_xml(root / f"AllXML/{number}.xml", [("Mass", [(0.2 * cols, 0.4 * rows), (0.4 * cols, 0.4 * rows), (0.4 * cols, 0.6 * rows), (0.2 * cols, 0.6 * rows)])])
            want.lesion(place[side, view], "malignant", int(0.4 * rows), -int(-0.6 * rows // 1), int(0.2 * cols), -int(-0.4 * cols // 1), "polygon")
    write_csv(root / "INbreast.csv", INBREAST_HEADER, lines, delimiter=";", newline="\r\n")
    want.breast(patient, f"{patient}_200801", "R", 1, 0, "birads_proxy", 2, "b")
    want.breast(patient, f"{patient}_200801", "L", None, 1, "birads_proxy", 5, "b", "mass")
    return want.done()


# ----------------------------------------------------------------------------------------------------------------- EMBED
CLINICAL = ["empi_anon", "acc_anon", "study_date_anon", "desc", "tissueden", "asses", "numfind", "side", "total_L_find", "total_R_find", "massshape", "massmargin",
            "massdens", "calcfind", "calcdistri", "calcnumber", "bside", "procdate_anon", "type", "path1", "path_severity", "age_at_study", "implanfind"]
METADATA = ["anon_dicom_path", "empi_anon", "acc_anon", "study_date_anon", "StudyDescription", "SeriesDescription", "FinalImageType", "ImageLateralityFinal", "ViewPosition",
            "spot_mag", "num_roi", "ROI_coords", "match_level", "PatientOrientation", "Rows", "Columns", "BreastImplantPresent"]


def embed_image(root, shape, cohort, empi, acc, day, side, view, *, kind="2D", spot=0, desc="MG Screening Bilateral", rois="()", level="()", copy=0):
    study, series, sop = f"1.2.847.113975.3.62.1.{acc % 10**8}.{day}.1", uid("embed", acc, side, view, kind, copy, "e"), uid("embed", acc, side, view, kind, copy)
    path = f"images/{cohort}/{empi}/{study}/{series}/{sop}.dcm"
    dataset = header(sop, MG, StudyDate=day, Modality="MG", PresentationIntentType="FOR PRESENTATION", ImageType=["DERIVED", "PRIMARY"] + (["", "GENERATED_2D"] if kind == "cview" else []),
                     Manufacturer="HOLOGIC, Inc.", ManufacturerModelName="Selenia Dimensions", PatientID=str(empi), AccessionNumber="", StudyInstanceUID=study, SeriesInstanceUID=series,
                     ImageLaterality=side, ViewPosition=view, PatientOrientation=ORIENTATION[side, view], ViewCodeSequence=view_code(view), ImagerPixelSpacing=["0.07", "0.07"],
                     WindowCenter="2047", WindowWidth="4096", StudyDescription=desc, SeriesDescription=f"{side} {view}" + (" C-View" if kind == "cview" else ""))
    save(dataset, root / path, breast(shape, side, (acc, side, view, kind, copy)), 12)
    row = ["./" + path, empi, acc, f"{day[:4]}-{day[4:6]}-{day[6:]}", desc, f"{side} {view}", kind, side, view, spot, rois.count("(") - 1 if rois != "()" else 0, rois, level,
           str(ORIENTATION[side, view]), shape[0], shape[1], "NO"]
    return path, row


@maker("embed")
def embed(root, shape):
    """Traps: study folder is a UID, not acc_anon; a row per finding; an exam with one finding says nothing of the other breast."""
    want = Expected("embed")
    empi, acc = 90000001, 9000000000000001
    clinical = [[empi, acc, "2015-02-22", "MG Screening Bilateral", 2.0, "A", 1, "L", 1.0, 0.0, "X", "I", "=", "", "", 0, "L", "2015-03-20", "B", "ID", 0.0, 54.9, ""]]
    meta = []
    for side, view in VIEWS:
        path, row = embed_image(root, shape, "cohort_1", empi, acc, "20150222", side, view)
        meta.append(row)
        want.image(path, str(empi), str(acc), side, view)
    write_csv(root / "tables/EMBED_OpenData_clinical.csv", CLINICAL, clinical)
    write_csv(root / "tables/EMBED_OpenData_metadata.csv", METADATA, meta)
    want.breast(str(empi), str(acc), "L", 0, 1, "biopsy", 0, "b", "mass")
    want.breast(str(empi), str(acc), "R", 0, 0, "birads_proxy", 1, "b")
    return want.done()


# --------------------------------------------------------------------------------------------------------------- CSAW-CC
@maker("csaw-cc")
def csaw_cc(root, shape):
    """Traps: the date in file names is a placeholder, the cancer side is a patient's, priors are not negatives, a mask larger than its image."""
    want = Expected("csaw-cc")
    rows, cols = shape
    head = ["anon_patientid", "exam_year", "x_age", "x_case", "x_cancer_laterality", "x_type", "x_lymphnode_met", "rad_timing", "rad_r1", "rad_r2", "rad_recall", "rad_recall_type_right",
            "rad_recall_type_left", "imagelaterality", "viewposition", "libra_breastarea", "libra_densearea", "libra_percentdensity", "anon_filename"]
    lines = []
    exams = [("90075", 2010, 1, 1, "Left", 2, 0, 3, 1), ("90075", 2012, 1, 1, "Left", 2, 0, 1, 2), ("90076", 2011, 2, 1, "Right", 3, 1, 2, 1), ("90077", 2013, 2, 0, "", "", "", "", 1)]
    for patient, year, age, case, cancer_side, kind, node, timing, n in exams:
        for side, view in VIEWS:
            name = f"{patient}_20990909_{side}_{view}_{n}.dcm"
            dataset = header(uid("csaw", name), MG, Modality="MG", PresentationIntentType="FOR PRESENTATION", StudyDate="20990909", PatientID=patient, StudyInstanceUID=uid("csaw", patient, n),
                             SeriesInstanceUID=uid("csaw", patient, n, "e"), ImageLaterality=side, ViewPosition=view, Manufacturer="HOLOGIC, Inc.", WindowCenter="2047", WindowWidth="4096")
            save(dataset, root / "images" / name, breast(shape, side, name), 12)
            word = {"L": "Left", "R": "Right"}[side]
            lines.append([patient, year, age, case, cancer_side, kind, node, timing, 1, 0, int(timing == 1), int(timing == 1 and cancer_side == "Right"), int(timing == 1 and cancer_side == "Left"), word, view, 100.5, 22.1, 22.0, name])
            want.image(f"images/{name}", patient, f"{patient}_{n}", side, view)
            if (patient, n, side) == ("90075", 2, "L"):
                size = (rows + 6, cols + 4) if view == "MLO" else shape
                mask = np.zeros(size, np.uint8)
                mask[part(0.4, rows):part(0.5, rows), part(0.2, cols):part(0.3, cols)] = 255
                target = root / "anon_annotations_nonhidden" / name.replace(".dcm", "_mask.png")
                target.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(mask).save(target)
                if view == "MLO":
                    want.fault("mask of another size than its image: not used")
                else:
                    want.lesion(f"images/{name}", "malignant", part(0.4, rows), part(0.5, rows), part(0.2, cols), part(0.3, cols), "mask")
    write_csv(root / "CSAW-CC_breast_cancer_screening_data.csv", head, lines)
    for patient, n, side, malignant, source in (("90075", 1, "L", None, "followup"), ("90075", 1, "R", 0, "followup"), ("90075", 2, "L", 1, "biopsy"), ("90075", 2, "R", 0, "followup"),
                                                ("90076", 1, "R", None, "followup"), ("90076", 1, "L", 0, "followup"), ("90077", 1, "L", 0, "followup"), ("90077", 1, "R", 0, "followup")):
        want.breast(patient, f"{patient}_{n}", side, None, malignant, source)
    want.fault("interval cancer (rad_timing 2): not known by default")
    want.fault("prior (rad_timing 3): not known")
    return want.done()


# ------------------------------------------------------------------------------------------------------------- mini-MIAS
@maker("mini-mias")
def mini_mias(root, shape):
    """Traps: y counts from the bottom, side is the number's parity, an abnormality without place, two rows of one film, both kinds in one."""
    want = Expected("mini-mias")
    size = 96
    rows = ["mdb901 G CIRC B 53 42 19", "mdb902 G CIRC B 52 28 6", "mdb903 D NORM ", "mdb904 D CALC M *NOTE 3* ", "mdb905 F CIRC B 47 13 3", "mdb905 F CIRC B 50 16 2", "mdb906 F MISC B 23 90 2",
            "mdb906 F MISC M 31 54 2", "mdb907 F CIRC B"]
    (root).mkdir(parents=True, exist_ok=True)
    (root / "Info.txt").write_text("              MAMMOGRAPHIC IMAGE ANALYSIS SOCIETY\n(made-up excerpt in the format of Info.txt)\n\nNOTES\n=====\n\n" + "\n".join(rows) + "\n")
    for number in range(901, 909):
        side = "R" if number % 2 else "L"  # odd = right, even = left
        pixels = breast((size, size), side, ("mias", number), top=200, dtype=np.uint8)
        (root / f"mdb{number}.pgm").write_bytes(b"P5\n# CREATOR: made up\n%d %d\n255\n" % (size, size) + pixels.tobytes())
        pair = f"{(number + 1) // 2:03d}"
        want.image(f"mdb{number}.pgm", pair, pair, side, "MLO", "film")
    for number, benign, malignant, kind in ((901, 1, 0, "mass"), (902, 1, 0, "mass"), (903, 0, 0, None), (904, 0, 1, "calcification"), (905, 1, 0, "mass"), (906, 1, 1, "other"), (907, 1, 0, "mass")):
        pair = f"{(number + 1) // 2:03d}"
        want.breast(pair, pair, "R" if number % 2 else "L", benign, malignant, "annotator", finding_type=kind)
    for number, finding, x, y, radius in ((901, "benign", 53, 42, 19), (902, "benign", 52, 28, 6), (905, "benign", 47, 13, 3), (905, "benign", 50, 16, 2), (906, "benign", 23, 90, 2), (906, "malignant", 31, 54, 2)):
        row = size - 1 - y
        want.lesion(f"mdb{number}.pgm", finding, max(0, row - radius), min(size, row + radius + 1), x - radius, x + radius + 1, "circle")
    want.fault("abnormality without a place: label only", 2)
    want.fault("film that Info.txt does not name: no label")
    return want.done()


# ------------------------------------------------------------------------------------------------------------------ DDSM
@maker("ddsm")
def ddsm(root, shape):
    """Traps: chain codes, two lesion types of one abnormality, CORE outlines, a pathology that is not pathology. No pixels: LJPEG needs its own decoder."""
    want = Expected("ddsm")
    rows, cols = 96, 80
    case = root / "cases/cancers/cancer_91/case9013"
    case.mkdir(parents=True, exist_ok=True)
    (case / "B-9013-1.ics").write_text("\n".join(["ics_version 1.0", "filename B-9013-1", "DATE_OF_STUDY 2 7 1995", "PATIENT_AGE 42", "FILM ", "FILM_TYPE REGULAR", "DENSITY 3", "DATE_DIGITIZED 7 22 1997 ",
                                                  "DIGITIZER LUMISYS LASER", "SEQUENCE", f"LEFT_CC LINES {rows} PIXELS_PER_LINE {cols} BITS_PER_PIXEL 12 RESOLUTION 50 OVERLAY",
                                                  f"LEFT_MLO LINES {rows} PIXELS_PER_LINE {cols} BITS_PER_PIXEL 12 RESOLUTION 50 OVERLAY", f"RIGHT_CC LINES {rows} PIXELS_PER_LINE {cols} BITS_PER_PIXEL 12 RESOLUTION 50 NON_OVERLAY",
                                                  f"RIGHT_MLO LINES {rows} PIXELS_PER_LINE {cols} BITS_PER_PIXEL 12 RESOLUTION 50 NON_OVERLAY", ""]))
    square = "20 30 " + "2 " * 10 + "4 " * 8 + "6 " * 10 + "0 " * 8 + "#"  # x 20..30, y 30..38
    (case / "B_9013_1.LEFT_CC.OVERLAY").write_text(f"TOTAL_ABNORMALITIES 1 \nABNORMALITY 1 \nLESION_TYPE CALCIFICATION TYPE FINE_LINEAR_BRANCHING DISTRIBUTION LINEAR\nLESION_TYPE MASS SHAPE ARCHITECTURAL_DISTORTION MARGINS N/A\n"
                                                     f"ASSESSMENT 4\nSUBTLETY 5\nPATHOLOGY MALIGNANT\nTOTAL_OUTLINES 2 \nBOUNDARY\n{square}\n\tCORE\n22 32 2 2 4 4 6 6 0 0 #\n")
    (case / "B_9013_1.LEFT_MLO.OVERLAY").write_text(f"TOTAL_ABNORMALITIES 1 \nABNORMALITY 1 \nLESION_TYPE MASS SHAPE OVAL MARGINS CIRCUMSCRIBED\nASSESSMENT 2\nSUBTLETY 3\nPATHOLOGY BENIGN_WITHOUT_CALLBACK\nTOTAL_OUTLINES 1 \nBOUNDARY\n{square}\n")
    for side, view in VIEWS:
        name = f"B_9013_1.{'LEFT' if side == 'L' else 'RIGHT'}_{view}.LJPEG"
        want.image(f"cases/cancers/cancer_91/case9013/{name}", "B-9013", "B-9013", side, view, "film")
    want.lesion("cases/cancers/cancer_91/case9013/B_9013_1.LEFT_CC.LJPEG", "malignant", 30, 39, 20, 31, "polygon")
    want.lesion("cases/cancers/cancer_91/case9013/B_9013_1.LEFT_MLO.LJPEG", "benign", 30, 39, 20, 31, "polygon")
    want.breast("B-9013", "B-9013", "L", 1, 1, "biopsy", 4, "c", "several")
    want.breast("B-9013", "B-9013", "R", 0, 0, "annotator", None, "c")
    return want.done()


# ---------------------------------------------------------------------------------------------------------------- OMI-DB
@maker("omi-db")
def omi_db(root, shape):
    """Traps: lower and upper case file names, .dcm.json, processed and unprocessed twins, side opinions, a later normal episode needed."""
    want = Expected("omi-db")
    rows, cols = shape
    client, study, episode = "demd9001", "1.2.826.0.1.9001.1", "E1"
    nbss = {episode: {"EpisodeType": "R", "EpisodeAction": "ST", "EpisodeIsClosed": "Y", "EpisodeOpenedDate": "2012-01-10", "SCREENING": {"L": {"DateTaken": "2012-01-10", "Opinion": "RC"}, "R": {"DateTaken": "2012-01-10", "Opinion": "RR"}},
                      "BIOPSYWIDE": {"L": {"1": {"DatePerformed": "2012-01-20", "Opinion": "B5", "MalignancyType": "b"}}}, "SURGERY": {"L": {"1": {"DatePerformed": "2012-02-20", "Opinion": "H5"}}}}}
    studies = {study: {"EpisodeID": episode, "StudyDate": "2012-01-10", f"{study}.1": {}}}
    for side, view in VIEWS:
        for intent in ("FOR PRESENTATION", "FOR PROCESSING"):
            sop = uid("omi", side, view, intent)
            series = studies[study][f"{study}.1"]
            series[sop] = {}
            if (side, view, intent) == ("L", "CC", "FOR PRESENTATION"):
                series[sop] = {"M1": {"MarkID": "M1", "X1": str(part(0.2, cols)), "Y1": str(part(0.4, rows)), "X2": str(part(0.4, cols)), "Y2": str(part(0.6, rows)), "LinkedNBSSLesionNumber": "1", "Conspicuity": "Obvious", "MassClassification": "spiculated", "Mass": "1"}}
                want.lesion(f"images/{client}/{study}/{sop}.dcm", "malignant", part(0.4, rows), part(0.6, rows), part(0.2, cols), part(0.4, cols), "box")
            sop_class = MG if intent == "FOR PRESENTATION" else "1.2.840.10008.5.1.4.1.1.1.2.1"
            dataset = header(sop, sop_class, StudyDate="20120110", Modality="MG", PresentationIntentType=intent, PatientID=client, StudyInstanceUID=study, SeriesInstanceUID=f"{study}.1", ImageLaterality=side,
                             ViewPosition=view, PatientOrientation=ORIENTATION[side, view], ViewCodeSequence=view_code(view), Manufacturer="HOLOGIC, Inc.", ImagerPixelSpacing=["0.07", "0.07"], WindowCenter="2047", WindowWidth="4096")
            path = f"images/{client}/{study}/{sop}.dcm"
            save(dataset, root / path, breast(shape, side, sop), 12)
            data = root / f"data/{client}/{study}" / (f"{sop}.dcm.json" if side == "R" else f"{sop}.json")
            data.parent.mkdir(parents=True, exist_ok=True)
            data.write_text(json.dumps({"00080068": {"vr": "CS", "Value": [intent]}, "00200062": {"vr": "CS", "Value": [side]}, "00185101": {"vr": "CS", "Value": [view]}}))
            if intent == "FOR PRESENTATION":
                want.image(path, client, study, side, view)
            else:
                want.leave_out(path, "FOR PROCESSING twin")
    (root / f"data/{client}/nbss_{client}.json").write_text(json.dumps(nbss))
    (root / f"data/{client}/IMAGEDB_{client}.json").write_text(json.dumps({"ClientID": client, "Site": "adde", "STUDIES": studies}))
    want.breast(client, study, "L", 0, 1, "biopsy", None, None, "mass")
    want.breast(client, study, "R", None, None, "followup")
    want.fault("normal side without a later normal episode: not known")
    return want.done()


# ------------------------------------------------------------------------------------------------------------------ BMCD
@maker("bmcd")
def bmcd(root, shape):
    """Traps: .DCM and .dcm, misspelt names (recemt, reent, .Jpg), two exams in a folder, one breast per patient, a table whose folder numbers repeat."""
    want = Expected("bmcd")
    sheet = [["dir", "laterality", "age", "density", "BIRADS", "biopsy_result", "folder_type"], ["1", "Right", 57, "b", "4a", "BENIGN", "suspicious"], ["2", "Left", 64, "c", "5", "DCIS", "suspicious"],
             ["4", "Left", 55, "c", "4a", "NOT AVAILABLE", "suspicious"], ["1", "Left", 60, "a", "1", "", "normal"]]
    write_csv(root / "label.csv", sheet[0], sheet[1:])
    for folder, n, side, names in (("Suspicious_cases", "1", "R", ("CC_recent.dcm", "MLO_recent.dcm", "CC_prior.dcm", "MLO_prior.dcm")), ("Suspicious_cases", "2", "L", ("CC_recemt.dcm", "MLO_recent.DCM", "CC_prior.DCM", "MLO_prior.DCM")),
                                   ("Suspicious_cases", "4", "L", ("CC_recent.dcm", "MLO_recent.dcm", "CC_prior.dcm", "MLO_prior.dcm")), ("Normal_cases", "1", "L", ("CC_recent.dcm", "MLO_recent.dcm", "CC_prior.dcm", "MLO_prior.dcm"))):
        patient = f"{folder.split('_')[0].lower()}_{n}"
        for name in names:
            view, when = name.split("_")[0], "prior" if "prior" in name else "recent"
            sop = uid("bmcd", patient, name)
            dataset = header(sop, MG, Modality="MG", PatientID="", StudyInstanceUID=uid("bmcd", patient, when), SeriesInstanceUID=uid("bmcd", patient, when, "e"), ViewPosition=view, WindowCenter="2047", WindowWidth="4096", RescaleIntercept="0", RescaleSlope="1", RescaleType="US")
            path = f"Dataset/{folder}/{n}/{name}"
            save(dataset, root / path, breast(shape, side, (patient, name)), 12)
            mark = root / f"Dataset/{folder}/{n}" / (name.rsplit(".", 1)[0].replace("recemt", "reent") + ("_GT.Jpg" if n == "2" and view == "CC" else "_GT.jpg"))
            Image.fromarray(np.zeros(shape, np.uint8)).save(mark, format="JPEG")
            want.image(path, patient, f"{patient}_{when}", side, view)
    for patient, side, benign, malignant, source, birads, density in (("suspicious_1", "R", 1, 0, "biopsy", 4, "b"), ("suspicious_2", "L", 0, 1, "biopsy", 5, "c"), ("suspicious_4", "L", None, None, "birads_proxy", 4, "c"), ("normal_1", "L", 0, 0, "birads_proxy", 1, "a")):
        want.breast(patient, f"{patient}_recent", side, benign, malignant, source, birads, density, "calcification" if benign or malignant else None)
    want.fault("prior exam: not known", 4)
    want.fault("misspelt file name: read as what it means", 1)
    return want.done()


# -------------------------------------------------------------------------------------------------------------- CDD-CESM
@maker("cdd-cesm")
def cdd_cesm(root, shape):
    """Traps: blanks in names, '$' between two BI-RADS, low energy and subtracted twins, annotations of normal images, VIA regions of four kinds."""
    want = Expected("cdd-cesm")
    rows, cols = shape
    sheet = [["Patient_ID", "Age", "Side", "Breast density (ACR)", "View", "Type", "Findings", "BIRADS", "Tags", "Machine", "Image_name", "Pathology Classification/ Follow up"]]
    table = [(901, "R", "CC", "B", "5", "Malignant"), (901, "R", "MLO", "B", "4$5", "Malignant"), (902, "L", "CC", "C", "2$2", "Benign"), (902, "R", "CC", "C", "1", "Normal")]
    for patient, side, view, density, birads, label in table:
        for kind, folder in (("DM", "Low energy images of CDD-CESM"), ("CM", "Subtracted images of CDD-CESM")):
            name = f"P{patient}_{side}_{kind}_{view}"
            sheet.append([patient, 54, side, density, view, kind, "Mass", birads, "", 1, " " + name + " " if patient == 902 else name, label])
            path = f"{folder}/{name}.jpg"
            (root / folder).mkdir(parents=True, exist_ok=True)
            Image.fromarray(breast(shape, side, name, top=250, dtype=np.uint8)).convert("RGB").save(root / path, quality=100)
            if kind == "DM":
                want.image(path, str(patient), str(patient), side, view)
            else:
                want.leave_out(path, "subtracted contrast image")
    write_xlsx(root / "Radiology manual annotations.xlsx", {"all": sheet})
    regions = [("P901_R_DM_CC.jpg", dict(name="polygon", all_points_x=[10, 20, 20, 10], all_points_y=[30, 30, 44, 44])), ("P901_R_DM_CC.jpg", dict(name="circle", cx=40, cy=50, r=5)),
               ("P901_R_DM_MLO.jpg", dict(name="ellipse", cx=30, cy=40, rx=6, ry=4, theta=0)), ("P902_R_DM_CC.jpg", dict(name="point", cx=30, cy=40))]
    write_csv(root / "Radiology_hand_drawn_segmentations_v2.csv", ["#filename", "file_size", "file_attributes", "region_count", "region_id", "region_shape_attributes", "region_attributes"],
              [[name, 1, "{}", 1, k, json.dumps(shape_), "{}"] for k, (name, shape_) in enumerate(regions)])
    base = "Low energy images of CDD-CESM/"
    want.lesion(base + "P901_R_DM_CC.jpg", "malignant", 30, 45, 10, 21, "polygon")
    want.lesion(base + "P901_R_DM_CC.jpg", "malignant", 45, 56, 35, 46, "circle")
    want.lesion(base + "P901_R_DM_MLO.jpg", "malignant", 36, 45, 24, 37, "ellipse")
    want.breast("901", "901", "R", 0, 1, "biopsy", 5, "b")
    want.breast("902", "902", "L", 1, 0, "followup", 2, "c")
    want.breast("902", "902", "R", 0, 0, "followup", 1, "c")
    want.fault("outline on an image that is labelled normal: not used")
    want.fault("two BI-RADS in one field: the higher", 2)
    return want.done()


# -------------------------------------------------------------------------------------------------------------- KAU-BCMD
@maker("kau-bcmd")
def kau_bcmd(root, shape):
    """Traps: JPEG, blanks in names and headings, BI-RADS as text, folder names of mixed case, no patient but in the name."""
    want = Expected("kau-bcmd")
    sheet = [["Percentage of\n grandular tissue(density)", "PatientID", "Patient age ", "Breast  type", "Breast view", "Assesment", "Image path"]]
    for folder, inner, patient, birads in (("BIRAD1", "b1", "9001", 1), ("Birad4", "b4", "9002", 4), ("Birad5", "Birad5", "9003", 5)):
        for side, view in VIEWS:
            name = f"19_BC{patient}_ {view}_{side}.jpg"
            path = f"{folder}/{inner}/{name}"
            (root / folder / inner).mkdir(parents=True, exist_ok=True)
            Image.fromarray(breast(shape, side, (patient, side, view), top=250, dtype=np.uint8)).save(root / path, quality=100)
            sheet.append(["25%", f"BC{patient}", "55 Y", "Left" if side == "L" else "Right", view, f"BIRADS {birads}", f"x/{path}"])
            want.image(path, f"BC{patient}", f"BC{patient}", side, view)
        for side in "LR":
            want.breast(f"BC{patient}", f"BC{patient}", side, {1: 0, 4: None, 5: None}[birads], {1: 0, 4: None, 5: None}[birads], "birads_proxy", birads)
    write_xlsx(root / "correctSheetlast.xlsx", {"correctSheet": sheet})
    want.fault("BI-RADS of the case given to both breasts: malignant not known", 4)
    return want.done()


# ------------------------------------------------------------------------------------------------------------- Mini-DDSM
@maker("mini-ddsm")
def mini_ddsm(root, shape):
    """Traps: two editions, backslashes in the table, one number in two letters, status of the patient, density 0, a third mask elsewhere."""
    want = Expected("mini-ddsm")
    rows, cols = shape
    top, bottom, left, right = part(0.4, rows), part(0.5, rows), part(0.2, cols), part(0.4, cols)
    sheet = [["fullPath", "fileName", "View", "Side", "Status", "Tumour_Contour", "Tumour_Contour2", "Age", "Density"]]
    # class, letter, number, density, sides with a contour
    for status, letter, number, density, marked in (("Cancer", "C", "9001", 3, "L"), ("Benign", "A", "9001", 0, "LR"), ("Cancer", "B", "9003", 2, "LR"), ("Normal", "A", "9002", 1, "")):
        patient = f"{letter}-{number}"
        for side, view in VIEWS:
            name = f"{letter}_{number}_1.{'LEFT' if side == 'L' else 'RIGHT'}_{view}"
            folder = root / "MINI-DDSM-Complete-PNG-16" / status / number
            folder.mkdir(parents=True, exist_ok=True)
            film = breast(shape, side, (patient, side, view), top=60000)
            Image.fromarray(film).save(folder / f"{name}.png")
            twin = root / "MINI-DDSM-Complete-JPEG-8" / status / number
            twin.mkdir(parents=True, exist_ok=True)
            Image.fromarray((film >> 8).astype(np.uint8)).save(twin / f"{name}.jpg")
            contours = ["-", "-"]
            if side in marked and view == "CC":
                mask = np.zeros(shape, np.uint8)
                mask[top:bottom, left:right] = 255
                Image.fromarray(mask).save(folder / f"{name}_Mask.png")
                Image.fromarray(mask).save(twin / f"{name}_Mask.jpg")
                contours[0] = f"{status}\\{number}\\{name}_Mask.jpg"
                finding = {"Benign": "benign", "Cancer": "malignant" if marked == "L" else None}[status]
                path = f"MINI-DDSM-Complete-PNG-16/{status}/{number}/{name}.png"
                want.lesion(path, finding, top, bottom, left, right, "mask")
                if patient == "C-9001":
                    third = root / "Data-MoreThanTwoMasks" / status / number
                    third.mkdir(parents=True, exist_ok=True)
                    mask = np.zeros(shape, np.uint8)
                    mask[bottom + 2:bottom + 8, left:right] = 255
                    Image.fromarray(mask).save(third / f"{name}_Mask3.png")
                    want.lesion(path, finding, bottom + 2, bottom + 8, left, right, "mask")
            sheet.append([f"{status}\\{number}\\{name}.jpg", f"{name}.jpg", view, "LEFT" if side == "L" else "RIGHT", status, *contours, 55, density])
            want.image(f"MINI-DDSM-Complete-PNG-16/{status}/{number}/{name}.png", patient, patient, side, view, "film")
        (folder / f"{letter}-{number}-1.ics").write_text("ics_version 1.0\n")
    write_xlsx(root / "MINI-DDSM-Complete-JPEG-8/DataWMask.xlsx", {"DataWMask": sheet})
    for patient, side, benign, malignant, source, density in (("C-9001", "L", 0, 1, "biopsy", "c"), ("C-9001", "R", 0, 0, "annotator", "c"), ("A-9001", "L", 1, 0, "biopsy", None), ("A-9001", "R", 1, 0, "biopsy", None),
                                                              ("B-9003", "L", None, None, "biopsy", "b"), ("B-9003", "R", None, None, "biopsy", "b"), ("A-9002", "L", 0, 0, "annotator", "a"), ("A-9002", "R", 0, 0, "annotator", "a")):
        want.breast(patient, patient, side, benign, malignant, source, None, density)
    want.fault("film of both editions: the PNG is used", 16)
    want.fault("contours in both breasts of a patient with cancer: which of them has it is not known")
    return want.done()


def make(name, out, shape=(96, 80)):
    """Writes the tree of a set into `out`, and gives the answer that is expected of it."""
    return MAKERS[name](out, shape)
