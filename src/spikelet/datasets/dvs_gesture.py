"""DVS128 Gesture: people in front of a camera, as long AEDAT 3.1 recordings that a table cuts into gestures.

Also as single numpy files, the form in which tonic passes it on: a gesture per file, times in whole milliseconds.
"""

import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from spikelet.datasets.base import Source, published_checksums
from spikelet.datasets.event_base import EventSet, Protocol, Split, everything
from spikelet.datasets.event_fakes import fake_recording
from spikelet.datasets.layouts import Catalogue, DamageError, File, Layout, Row, as_file, entries
from spikelet.errors import SpikeletError
from spikelet.events import make_events
from spikelet.events.formats import aedat3, numpy_files
from spikelet.files import write_whole

TRAIN, TEST = "dvs-gesture-train", "dvs-gesture-test"
LAST_TRAIN_USER, VAL_USERS = 23, (21, 22, 23)
LIGHTS = ("fluorescent", "fluorescent_led", "lab", "led", "natural")
GESTURES = 11
TRIAL = rf"user(\d\d)_({'|'.join(LIGHTS)})"
TWELVE = [*range(8), *range(7, GESTURES)]  # arm roll is shown twice
HEADER = "class,startTime_usec,endTime_usec"

Span = tuple[int, int]


def read_labels(text: str) -> list[tuple[int, Span]]:
    """The labels, from 0, and spans in us of a table of gestures; raises ValueError with the row that is none.

    >>> read_labels("class,startTime_usec,endTime_usec\\n1,80048239,85092709\\n")
    [(0, (80048239, 85092709))]
    """
    rows = []
    for number, line in enumerate(text.rstrip().splitlines()[1:], 1):
        fit = re.fullmatch(r"\s*(\d\d?)\s*,\s*(\d{1,15})\s*,\s*(\d{1,15})\s*", line)
        if fit is None or not 1 <= int(fit[1]) <= GESTURES:
            raise ValueError(f"row {number} is {line!r}, expected {HEADER} with classes 1 to {GESTURES}")
        rows.append((int(fit[1]) - 1, (int(fit[2]), int(fit[3]))))
    return rows


def odd_spans(spans: list[Span]) -> list[str]:
    """What is wrong with the times of a table's rows, in words.

    >>> odd_spans([(10, 20), (19, 30), (40, 40)])
    ['rows 1 and 2 overlap by 1 us', 'row 3 ends at 40 us, where it starts or before']
    """
    found = []
    for i, (start, end) in enumerate(spans):
        for j, (other_start, other_end) in enumerate(spans[i + 1 :], i + 1):
            common = min(end, other_end) - max(start, other_start)
            if common > 0:
                found.append(f"rows {i + 1} and {j + 1} overlap by {common:,} us")
        if end <= start:
            found.append(f"row {i + 1} ends at {end} us, where it starts or before")
    return found


def _index(user: int, light: str, number: int) -> int:
    return 1000 * user + 100 * LIGHTS.index(light) + number


@dataclass(frozen=True)
class Trials(Layout):
    """userUU_LIGHT.aedat, each with userUU_LIGHT_labels.csv; trials_to_train.txt and _test.txt say which is which.

    Without these two files, users 1 to 23 are for training. A gesture is what lies in its row's time, whatever the
    other rows say; its own time begins with its first event.
    """

    def files(self, folder: Path, part: str) -> list[File]:
        train, test = (_listed(folder / f"trials_to_{name}.txt") for name in ("train", "test"))
        if train & test:
            raise DamageError(folder / "trials_to_test.txt", f"{min(train & test)} is listed for training too")
        listed, found = train if part == TRAIN else test, []
        for entry, fit in entries(folder, rf"{TRIAL}\.aedat"):
            user, light = int(fit[1]), fit[2]
            by_user = (user <= LAST_TRAIN_USER) == (part == TRAIN)
            if entry.name in listed if train and test else by_user:
                found.append(as_file(entry, *_rows(_table(entry.path), user, light)))
        return found

    def read(self, file: File) -> Iterator[np.ndarray]:
        events = aedat3.parse(Path(file.path).read_bytes())
        spans = [row.span for row in file.rows if row.span is not None]
        edges = np.searchsorted(events["t"], np.array(spans, np.int64).reshape(-1, 2))
        empty = [f"row {i} has no event and is left out" for i, (a, b) in enumerate(edges.tolist(), 1) if a >= b]
        for fault in odd_spans(spans) + empty:
            warnings.warn(f"{_table(file.path)}: {fault}", stacklevel=2)
        for first, last in edges.tolist():
            piece = events[first : max(first, last)].copy()
            piece["t"] -= piece["t"][:1]
            yield piece


def _listed(path: Path) -> set[str]:
    return set(path.read_text(errors="replace").split()) if path.is_file() else set()


def _table(recording: str) -> Path:
    return Path(f"{recording.removesuffix('.aedat')}_labels.csv")


def _rows(table: Path, user: int, light: str) -> list[Row]:
    try:
        labels = read_labels(table.read_text())
    except FileNotFoundError as error:
        raise DamageError(table, "it is not there, and without it nobody knows the gestures") from error
    except ValueError as error:
        raise DamageError(table, str(error)) from error
    return [Row(_index(user, light, i), label, user, span) for i, (label, span) in enumerate(labels)]


@dataclass(frozen=True)
class Extracted(Layout):
    """userUU_LIGHT/<label>.npy: of each recording one gesture per class, cut out already."""

    def files(self, folder: Path, part: str) -> list[File]:
        homes = (path for path in folder.glob("user*") if path.is_dir())
        trials = ((home, fit) for home in homes if (fit := re.fullmatch(TRIAL, home.name)))
        return [
            as_file(entry, Row(_index(int(trial[1]), trial[2], int(fit[1])), int(fit[1]), int(trial[1])))
            for home, trial in trials
            for entry, fit in entries(home, r"(10|\d)\.npy")
        ]

    def read(self, file: File) -> Iterator[np.ndarray]:
        yield numpy_files.parse(Path(file.path).read_bytes())


def _is_val(rows: Catalogue) -> np.ndarray:
    return np.isin(rows.groups, VAL_USERS)


class DVSGesture(EventSet):
    """Eleven gestures of 29 people in up to five kinds of light, 128 x 128 pixels, about six seconds each.

    Users 1 to 23 are for training, 24 to 29 for "test"; of the former, users 21 to 23 are "val", so that nobody is in
    two splits. As AEDAT files with tables of labels there are 1,176 + 288 recordings, cut out by these tables; wrong
    and overlapping rows are reported with a warning, empty ones left out. As tonic's numpy files there are 1,077 + 264,
    one per class and trial: where a number is printed, say which were used.
    """

    name = "dvs-gesture"
    classes = (
        "hand clapping",
        "right hand wave",
        "left hand wave",
        "right arm clockwise",
        "right arm counter-clockwise",
        "left arm clockwise",
        "left arm counter-clockwise",
        "arm roll",
        "air drums",
        "air guitar",
        "other",
    )
    sensor_size = (128, 128, 2)
    num: ClassVar = {"train+val": 1_176, "test": 288}
    folder = "DVSGesture"
    places = ("DVSGesture", "DVS128Gesture", "dvs-gesture", "")
    layouts: ClassVar = (
        Trials({TRAIN: 1_176, TEST: 288}, dict.fromkeys((TRAIN, TEST), ("DvsGesture", ""))),
        Extracted({TRAIN: 1_077, TEST: 264}, {TRAIN: ("ibmGestureTrain",), TEST: ("ibmGestureTest",)}),
    )
    members = (
        rf"DvsGesture/(?:{TRIAL}(?:\.aedat|_labels\.csv)|trials_to_\w+\.txt)|ibmGesture(?:Train|Test)/{TRIAL}/\d+\.npy"
    )
    protocols: ClassVar = {
        "full": Protocol(
            tuple(range(GESTURES)),
            {
                "train": Split(TRAIN, None, lambda rows: ~_is_val(rows)),
                "val": Split(TRAIN, None, _is_val),
                "train+val": Split(TRAIN, None, everything),
                "test": Split(TEST, None, everything),
            },
        )
    }
    source = Source(
        homepage="https://research.ibm.com/interactive/dvsgesture/",
        license="CC BY 4.0",
        citation="Amir et al., A Low Power, Fully Event-Based Gesture Recognition System, CVPR 2017",
        addresses=("https://api.figshare.com/v2/file/download/", "https://ndownloader.figshare.com/files/"),
        by_hand={"DvsGesture.tar.gz": (TRAIN, TEST)},
        downloads={"ibmGestureTrain.tar.gz": (TRAIN,), "ibmGestureTest.tar.gz": (TEST,)},
        links={"ibmGestureTrain.tar.gz": "38022171", "ibmGestureTest.tar.gz": "38020584"},
        checksums={
            "DvsGesture.tar.gz": "8a5c71fb11e24e5ca5b11866ca6c00a1",
            "ibmGestureTrain.tar.gz": "3a8f0d4120a166bac7591f77409cb105",
            "ibmGestureTest.tar.gz": "56070e45dadaa85fff82e0fbfbc06de5",
            **published_checksums("dvs-gesture"),
        },
        megabytes=3_100,
    )

    @classmethod
    def write_fake(
        cls, root: str | Path, num_train: int = 600, num_test: int = 100, seed: int = 0, form: str = "aedat"
    ) -> None:
        """Write trials of up to twelve gestures as AEDAT with their tables or, where ``form`` is "npy", gestures."""
        if form not in ("aedat", "npy"):
            raise SpikeletError(f"form: expected aedat or npy, got {form!r}")
        rng = np.random.default_rng([seed, num_train])
        labels, write = (TWELVE, _write_trial) if form == "aedat" else (TWELVE[:7] + TWELVE[8:], _write_gestures)
        home = Path(root).expanduser() / cls.folder
        for users, num, name in ((range(1, 24), num_train, "Train"), (range(24, 30), num_test, "Test")):
            trials = [f"user{user:02d}_{light}" for user in users for light in LIGHTS]
            needed = -(-num // len(labels))
            if needed > len(trials):
                raise SpikeletError(f"num_{name.lower()}: expected at most {len(labels) * len(trials)}, got {num}")
            for k, i in enumerate(np.linspace(0, len(trials) - 1, needed).round().astype(int)):
                write(home, name, trials[i], labels[: num - k * len(labels)], rng)


def _gesture(label: int, rng: np.random.Generator) -> np.ndarray:
    return fake_recording(label, rng, DVSGesture.sensor_size, GESTURES)


def _write_trial(home: Path, part: str, trial: str, labels: list[int], rng: np.random.Generator) -> None:
    """One long recording, with noise before, between and after the gestures, and its table."""
    parts, rows, now = [], [HEADER], 1_000_000
    for label in labels:
        gesture = _gesture(label, rng)
        gesture["t"] += now
        rows.append(f"{label + 1},{now},{now + 300_000}")
        noise = make_events(now - np.array([9, 5]), [64, 3], [2, 90], [0, 1])
        parts += [noise, gesture]
        now += 350_000
    write_whole(home / "DvsGesture" / f"{trial}.aedat", aedat3.to_bytes(np.concatenate(parts)))
    write_whole(home / "DvsGesture" / f"{trial}_labels.csv", ("\n".join(rows) + "\n").encode())


def _write_gestures(home: Path, part: str, trial: str, labels: list[int], rng: np.random.Generator) -> None:
    for label in labels:
        gesture = _gesture(label, rng)
        gesture["t"] = gesture["t"] // 1000 * 1000
        write_whole(home / f"ibmGesture{part}" / trial / f"{label}.npy", numpy_files.to_bytes(gesture))
