import json
from pathlib import Path

import pytest

from anatomad.errors import DataError, UsageError
from anatomad.planner.dataset import (
    Case,
    RawDataset,
    dataset_folder,
    discover_cases,
    find_dataset,
    make_folder,
    new_dataset,
    read_dataset,
    spelling,
)


def make_dataset(root: Path, name: str = "Dataset001_Demo", files: tuple[str, ...] = (), **description: object) -> Path:
    folder = root / name
    folder.mkdir(parents=True)
    text = {"channel_names": {"0": "T1w", "1": "T2w"}, "file_ending": ".nii.gz", **description}
    (folder / "dataset.json").write_text(json.dumps(text))
    for file in files:
        (folder / file).parent.mkdir(exist_ok=True)
        (folder / file).touch()
    return folder


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ANATOMAD_ROOT", raising=False)
    monkeypatch.delenv("ANATOMAD_WORK", raising=False)


@pytest.mark.parametrize("spec", ["1", "001", "Dataset001", "Dataset001_Demo"])
@pytest.mark.parametrize("how", ["argument", "environment", "here", "above"])
def test_every_spelling_from_everywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spec: str, how: str) -> None:
    folder = make_dataset(tmp_path)
    make_dataset(tmp_path, "Dataset011_Other")
    if how == "environment":
        monkeypatch.setenv("ANATOMAD_ROOT", str(tmp_path))
    if how in ("here", "above"):
        monkeypatch.chdir(tmp_path if how == "here" else folder)
    found = find_dataset(spec, tmp_path if how == "argument" else None)
    assert (found.path, found.name, found.number) == (folder, "Dataset001_Demo", 1)
    assert found.channel_names == {0: "T1w", 1: "T2w"}


def test_path_as_spelling(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_dataset(tmp_path)
    monkeypatch.chdir(folder)
    assert find_dataset(str(folder)).path == folder
    assert find_dataset(".").path == folder
    assert find_dataset(f"../{folder.name}/", root=tmp_path / "ignored").path == folder


def test_unknown_name_lists_what_exists(tmp_path: Path) -> None:
    make_dataset(tmp_path, "Dataset002_A")
    make_dataset(tmp_path, "Dataset101_B")
    with pytest.raises(UsageError, match=r"no data set '7' in .*Dataset002_A, Dataset101_B.*--root"):
        find_dataset("7", tmp_path)


def test_nothing_there_at_all(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no DatasetNNN_Name folder"):
        find_dataset("1", tmp_path)
    with pytest.raises(UsageError, match="no such folder; --root"):
        find_dataset("1", tmp_path / "missing")


def test_two_folders_of_one_number(tmp_path: Path) -> None:
    make_dataset(tmp_path, "Dataset001_A")
    make_dataset(tmp_path, "Dataset001_B")
    with pytest.raises(UsageError, match=r"fits several folders .*Dataset001_A, Dataset001_B"):
        find_dataset("001", tmp_path)
    assert find_dataset("Dataset001_B", tmp_path).name == "Dataset001_B"


def test_folders_of_others_are_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_dataset(tmp_path, "Dataset005_Private")
    is_file = Path.is_file

    def guarded(path: Path) -> bool:
        if path.parent.name == "Dataset005_Private":
            raise PermissionError(13, "Permission denied", str(path))
        return is_file(path)

    monkeypatch.setattr(Path, "is_file", guarded)
    assert find_dataset("1", make_dataset(tmp_path).parent).name == "Dataset001_Demo"
    with pytest.raises(UsageError, match="no data set '5'"):
        find_dataset("5", tmp_path)


@pytest.mark.parametrize(
    ("spec", "again"), [("1", "001"), ("Dataset001", "001"), ("Dataset001_Demo", "Dataset001_Demo"), (".", None)]
)
def test_a_data_set_is_found_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spec: str, again: str | None
) -> None:
    folder = make_dataset(tmp_path)
    monkeypatch.chdir(folder)
    dataset = find_dataset(spec)
    assert spelling(spec, dataset) == (again or str(folder))
    assert find_dataset(spelling(spec, dataset)) == dataset


def test_results_folder_is_no_raw_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = make_dataset(tmp_path)
    results = dataset_folder(read_dataset(raw))
    results.mkdir(parents=True)
    monkeypatch.chdir(results.parent)
    assert find_dataset("1").path == raw


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "Invalid JSON"),
        ("{}", "channel_names: Field required"),
        ('{"channel_names": {}}', "channel_names"),
        ('{"channel_names": {"a": "T1w"}}', r"channel_names\.a"),
        ('{"channel_names": {"0": "T1w"}, "file_ending": ".mgz"}', "file_ending"),
        (" " * (1 << 21), "at most 1048576"),
    ],
)
def test_damaged_description_is_named(tmp_path: Path, text: str, message: str) -> None:
    folder = make_dataset(tmp_path)
    (folder / "dataset.json").write_text(text)
    with pytest.raises(DataError, match=rf"dataset\.json: .*{message}"):
        read_dataset(folder)


def test_folder_of_another_kind(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="named DatasetNNN_Name"):
        read_dataset(tmp_path)
    with pytest.raises(UsageError, match=r"dataset\.json: no such file"):
        read_dataset(tmp_path / "Dataset003_Empty")


def test_cases_may_lack_channels(tmp_path: Path) -> None:
    files = (
        "imagesTr/b_0001.nii.gz",
        "imagesTr/a_b_0000.nii.gz",
        "imagesTr/a_b_0001.nii.gz",
        "imagesTr/._b_0000.nii.gz",
    )
    folder = make_dataset(
        tmp_path, files=(*files, "imagesTr/readme.txt", "imagesTs/x_0000.nii.gz", "labelsTs/x.nii.gz")
    )
    dataset = read_dataset(folder)
    images = folder / "imagesTr"
    assert dataset.training_cases() == [
        Case("a_b", {0: images / "a_b_0000.nii.gz", 1: images / "a_b_0001.nii.gz"}),
        Case("b", {1: images / "b_0001.nii.gz"}),
    ]
    assert [case.id for case in dataset.test_cases()] == ["x"]
    assert dataset.label("x") == folder / "labelsTs" / "x.nii.gz"
    assert dataset.label("y") is None


def test_no_training_folder(tmp_path: Path) -> None:
    assert read_dataset(make_dataset(tmp_path)).training_cases() == []


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("imagesTr/a.nii.gz", "no channel number; expected a name like a_0000.nii.gz"),
        ("imagesTr/a_0000.nii", "promises files ending in '.nii.gz'"),
        ("imagesTr/a_0007.nii.gz", "channel 0007 is not in dataset.json, which has 0000 T1w, 0001 T2w"),
    ],
)
def test_foreign_files_are_named(tmp_path: Path, file: str, message: str) -> None:
    dataset = read_dataset(make_dataset(tmp_path, files=(file,)))
    with pytest.raises(DataError, match=message):
        dataset.training_cases()


def test_work_folder_rule(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = RawDataset(tmp_path / "Dataset001_Demo", "Dataset001_Demo", 1, {0: "T1w"}, ".nii.gz")
    assert dataset_folder(dataset) == tmp_path / "anatomad" / dataset.name
    monkeypatch.setenv("ANATOMAD_WORK", str(tmp_path / "env"))
    assert dataset_folder(dataset) == tmp_path / "env" / dataset.name
    assert dataset_folder(dataset, tmp_path / "work") == tmp_path / "work" / dataset.name


def test_unwritable_work_folder_names_the_option(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert make_folder(tmp_path / "a" / "b").is_dir()
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=r"file.*cannot be written \(.*\); .*--work DIR"):
        make_folder(tmp_path / "file" / "results")


def touch(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).touch()
    return folder


def found(path: Path, each: bool = False) -> dict[str, dict[int, str]]:
    return {c.id: {number: file.name for number, file in c.channels.items()} for c in discover_cases(path, each)}


def test_discovery_in_a_flat_folder(tmp_path: Path) -> None:
    folder = touch(tmp_path, "a_0001.nii.gz", "a_0000.nii.gz", "b.nii", "c_000.nii.gz", ".hidden.nii", "notes.txt")
    (folder / "folder.nii").mkdir()
    assert found(folder) == {
        "a": {0: "a_0000.nii.gz", 1: "a_0001.nii.gz"},
        "b": {0: "b.nii"},
        "c_000": {0: "c_000.nii.gz"},
    }
    assert list(found(folder, each=True)) == ["a_0000", "a_0001", "b", "c_000"]


def test_discovery_of_one_file_and_of_a_raw_folder(tmp_path: Path) -> None:
    touch(tmp_path / "imagesTs", "a_0003.nii.gz")
    touch(tmp_path / "imagesTr", "b_0000.nii.gz")
    assert found(tmp_path) == {"a": {3: "a_0003.nii.gz"}}
    assert found(tmp_path / "imagesTs" / "a_0003.nii.gz") == {"a": {3: "a_0003.nii.gz"}}
    assert found(tmp_path / "imagesTs" / "a_0003.nii.gz", each=True) == {"a_0003": {0: "a_0003.nii.gz"}}


@pytest.mark.parametrize("twins", [("a.nii", "a.nii.gz"), ("a.nii.gz", "a_0000.nii.gz")])
def test_two_files_for_one_channel(tmp_path: Path, twins: tuple[str, str]) -> None:
    with pytest.raises(DataError, match="are both channel 0 of case 'a'; rename one"):
        discover_cases(touch(tmp_path, *twins))


@pytest.mark.parametrize("name", ["", "missing", "missing.nii.gz", "notes.txt"])
def test_nothing_to_predict(tmp_path: Path, name: str) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(UsageError, match="no scan here"):
        discover_cases(tmp_path / name)


@pytest.mark.parametrize("spec", ["7", "007", "Dataset007", "Dataset007_IXI"])
@pytest.mark.parametrize("how", ["argument", "environment", "here"])
def test_name_of_a_new_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spec: str, how: str) -> None:
    if how == "environment":
        monkeypatch.setenv("ANATOMAD_ROOT", str(tmp_path))
    if how == "here":
        monkeypatch.chdir(tmp_path)
    assert new_dataset(spec, "IXI", tmp_path if how == "argument" else None) == tmp_path / "Dataset007_IXI"
    make_dataset(tmp_path, "Dataset007_IXI")
    make_dataset(tmp_path, "Dataset070_Other")
    assert new_dataset(spec, "IXI", tmp_path) == tmp_path / "Dataset007_IXI"


def test_a_number_names_one_data_set(tmp_path: Path) -> None:
    make_dataset(tmp_path, "Dataset007_Other")
    for spec in ("7", "Dataset007_IXI"):
        with pytest.raises(UsageError, match="Dataset007_Other: has the number 007 already"):
            new_dataset(spec, "IXI", tmp_path)
    for spec in ("seven", "Dataset7_IXI", "a/Dataset008_IXI", ""):
        with pytest.raises(UsageError, match="named by its number, like 010, or in full: Dataset010_IXI"):
            new_dataset(spec, "IXI", tmp_path)
