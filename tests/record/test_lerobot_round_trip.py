"""Out and back: training reads the same bytes from a recording and from the dataset; what is refused; what is left."""

import json
import shutil
import sys

import numpy as np
import pytest

pytest.importorskip("av", reason="needs the extra `export`: `make setup-dev`")
pq = pytest.importorskip("pyarrow.parquet", reason="needs the extra `export`: `make setup-dev`")

from lerobot_samples import BEGIN, CAMERAS, ROWS, decoded, info, record, stories, story, table  # noqa: E402

from vla_mbpo import cli  # noqa: E402
from vla_mbpo.core.errors import ConfigError  # noqa: E402
from vla_mbpo.policy.vocabulary import Vocabulary  # noqa: E402
from vla_mbpo.record.lerobot import dataset as writing  # noqa: E402
from vla_mbpo.record.lerobot.export import export  # noqa: E402
from vla_mbpo.record.lerobot.imported import import_rollouts, rollouts  # noqa: E402
from vla_mbpo.record.lerobot.video import read_pictures  # noqa: E402
from vla_mbpo.sim.tasks import TASKS  # noqa: E402
from vla_mbpo.training.episodes import find  # noqa: E402
from vla_mbpo.training.rollout_data import Rollouts  # noqa: E402

PIXELS = {"head", "wrist"}


@pytest.fixture(scope="module")
def both(recordings, exported, tmp_path_factory):
    """Rollout files that training makes of the recordings, and those that come out of the dataset."""
    folder = tmp_path_factory.mktemp("both")
    shutil.copytree(recordings, folder / "recordings")  # training keeps its files in there
    import_rollouts(exported[0], folder / "imported")
    return list(find([folder / "recordings"]).files), sorted((folder / "imported").glob("*.npz"))


def assert_same(one, other, names):
    for name in names:
        a, b = np.asarray(one[name]), np.asarray(other[name])
        assert (a.dtype, a.shape) == (b.dtype, b.shape), name
        assert a.tobytes() == b.tobytes(), name


def test_a_dataset_gives_back_every_array_of_the_recording(both):
    assert len(both[0]) == len(both[1]) == 2
    for direct, imported in zip(*both, strict=True):
        assert direct.name == imported.name
        with np.load(direct) as one, np.load(imported) as other:
            assert set(one) == set(other)
            assert_same(one, other, set(one) - {"made_of"})
            assert np.isnan(other["points"]).all() and np.isnan(other["cubes"]).all()


def test_the_world_model_reads_the_same_samples_from_both(both, spec):
    vocabulary = Vocabulary.of([task.instruction for task in TASKS.values()])
    one, other = (vars(Rollouts(files, spec, vocabulary)) for files in both)
    arrays = [name for name, value in one.items() if isinstance(value, np.ndarray)]
    assert {"proprio", "bins", "rows", "outcome", "words"} <= set(arrays) and len(one["proprio"]) > 8
    assert_same(one, other, arrays)
    assert all(a.tobytes() == b.tobytes() for a, b in zip(one["pictures"], other["pictures"], strict=True))
    assert one["facts"] == other["facts"]


def taught(folder, out):
    """Losses of three steps of supervised finetuning on a folder, what it learned from, and the weights after it."""
    pytest.importorskip("torch", reason="needs torch: `make setup-dev`")
    from vla_mbpo.training.sft import SftConfig, Trainer

    trainer, losses = Trainer(SftConfig((str(folder),), samples=6, batch=2, threads=1), out), []
    update = trainer._update
    trainer._update = lambda index: losses.append(update(index)) or losses[-1]
    trainer.run()
    weights = {name: value.numpy() for name, value in trainer.net.state_dict().items()}
    return [{name: float(value) for name, value in step.items()} for step in losses], trainer.demos, weights


def test_supervised_finetuning_is_the_same_to_the_last_bit(recordings, exported, both, tmp_path):
    """On the recordings, on the dataset and on rollouts that were imported from it."""
    recorded, dataset = tmp_path / "recordings", tmp_path / "dataset"
    shutil.copytree(recordings, recorded)
    shutil.copytree(exported[0], dataset)
    losses, demos, weights = taught(recorded, tmp_path / "one")
    assert len(demos) > 3 and not demos.arrays["valid"].all() and all(step["flow"] > 0 for step in losses)
    for number, folder in enumerate((dataset, both[1][0].parent)):
        same_losses, same_demos, same_weights = taught(folder, tmp_path / str(number))
        assert_same(demos.arrays, same_demos.arrays, demos.arrays)
        assert losses == same_losses
        assert_same(weights, same_weights, weights)


def test_with_a_lossy_video_only_pictures_differ(recordings, spec, exported, tmp_path):
    export(recordings, tmp_path / "lossy", spec, "lossy")
    shutil.copytree(exported[0], tmp_path / "lossless")
    one, other = (taught(tmp_path / name, tmp_path / f"{name}_run")[1] for name in ("lossless", "lossy"))
    assert_same(one.arrays, other.arrays, set(one.arrays) - PIXELS)
    assert (one.arrays["head"] != other.arrays["head"]).any()


def test_a_dataset_is_read_once_and_again_when_it_is_another_one(exported, recordings, spec, tmp_path, monkeypatch):
    dataset = tmp_path / "dataset"
    shutil.copytree(exported[0], dataset)
    first = find([dataset])
    assert [file.parent for file in first.files] == [dataset / "rollouts"] * 2
    with monkeypatch.context() as patched:  # also where the extra is not installed
        patched.setitem(sys.modules, "vla_mbpo.record.lerobot.imported", None)
        assert find([dataset]) == first
        with pytest.raises(ConfigError, match="extra `export`"):
            find([shutil.copytree(exported[0], tmp_path / "unread")])
    (path,) = (dataset / "meta/episodes").glob("*/*.parquet")
    episodes = pq.read_table(path)
    pq.write_table(episodes.set_column(episodes.column_names.index("aborted"), "aborted", [[True, True]]), path)
    with np.load(find([dataset]).files[0]) as made:
        assert made["aborted"]


def test_a_dataset_of_another_robot_is_refused(exported, tmp_path):
    shutil.copytree(exported[0], tmp_path / "dataset")
    with pytest.raises(ConfigError, match="robot_type.*ur5e"):
        find([tmp_path / "dataset"], "ur5e")


def test_any_frame_can_be_read_without_the_others(exported):
    path = exported[0] / f"videos/{CAMERAS[0]}/chunk-000/file-000.mp4"
    everything = decoded(path)[0]
    for wanted in ([0], [9], [10], [51, 52], [7, 33, 34, 92]):
        assert (read_pictures(path, 20, np.array(wanted)) == everything[wanted]).all()
    with pytest.raises(ConfigError, match="frame 93"):
        read_pictures(path, 20, np.array([92, 93]))


def test_looks_beside_their_rows_are_kept(spec, tmp_path):
    """A policy looks when a picture comes, not when a row begins, and not on a grid."""
    late = {19: 22_000_000}  # ns
    one = story("button", 9, 40, success_row=30, looks=(0, 8, 19, 27, 38), late=late)
    record(tmp_path / "recordings", spec, one)
    export(tmp_path / "recordings", tmp_path / "dataset", spec)
    ((_, made),) = rollouts(tmp_path / "dataset")
    (file,) = find([tmp_path / "recordings"]).files
    with np.load(file) as direct:
        assert {0, 8, 19, 27, 38} <= set(direct["at"])
        assert_same(direct, made, set(direct) - {"made_of"})
    looked = [frame["frame_index"] for frame in table(tmp_path / "dataset", "data") if frame["look"]]
    assert looked == made["at"].tolist() and (made["head"] == one.head[looked]).all()


def test_large_datasets_have_several_files(recordings, spec, tmp_path, monkeypatch):
    monkeypatch.setattr(writing, "VIDEO_MB", 0)
    monkeypatch.setattr(writing, "DATA_MB", 0)
    export(recordings, tmp_path / "dataset", spec)
    made = dict(rollouts(tmp_path / "dataset"))
    files = [str(f.relative_to(tmp_path / "dataset")) for f in (tmp_path / "dataset").rglob("file-001.*")]
    assert len(files) == 4 and len(made) == 2
    for episode, name in zip(table(tmp_path / "dataset", "meta/episodes"), made, strict=True):
        number = episode["episode_index"]
        assert episode["data/file_index"] == episode[f"videos/{CAMERAS[0]}/file_index"] == number
        assert episode[f"videos/{CAMERAS[0]}/from_timestamp"] == 0.0
        assert (made[name]["head"] == stories()[number].head[made[name]["at"]]).all()


def test_a_lossy_video_is_much_smaller_and_near(spec, tmp_path):
    """Of a picture that changes slowly, as pictures do."""
    rows, (y, x) = 40, np.mgrid[0:64, 0:64]
    moving = [np.stack([128 + 80 * np.sin((x + t) / 20), 2 * y + t, 3 * x], -1) for t in range(rows + 1)]
    one = story("button", 3, rows, 64, success_row=30)
    one.head = one.wrist = np.array(moving).clip(0, 255).astype(np.uint8)
    record(tmp_path / "recordings", spec, one)
    sizes, made = {}, {}
    for video in ("lossless", "lossy"):
        export(tmp_path / "recordings", tmp_path / video, spec, video)
        ((_, made[video]),) = rollouts(tmp_path / video)
        sizes[video] = (tmp_path / video / f"videos/{CAMERAS[0]}/chunk-000/file-000.mp4").stat().st_size
    assert info(tmp_path / "lossy")["features"][CAMERAS[0]]["info"]["video.pix_fmt"] == "yuv420p"
    assert sizes["lossy"] < sizes["lossless"]
    assert np.abs(made["lossy"]["head"].astype(int) - made["lossless"]["head"]).mean() < 4
    assert_same(made["lossy"], made["lossless"], set(made["lossy"]) - PIXELS)


def test_a_folder_that_holds_something_is_refused_and_kept(recordings, exported, spec, tmp_path):
    (tmp_path / "mine").write_text("kept")
    for action in (lambda: export(recordings, tmp_path, spec), lambda: import_rollouts(exported[0], tmp_path)):
        with pytest.raises(ConfigError, match="out: .* expected a folder that is empty or not there yet"):
            action()
    assert [file.name for file in tmp_path.iterdir()] == ["mine"]


def test_an_empty_folder_and_what_a_kill_left_are_taken_over(recordings, spec, tmp_path):
    (tmp_path / "dataset").mkdir()
    (tmp_path / ".dataset.partial/data").mkdir(parents=True)
    (tmp_path / ".dataset.partial/data/half").touch()
    export(recordings, tmp_path / "dataset", spec)
    assert [path.name for path in tmp_path.iterdir()] == ["dataset"]
    assert not (tmp_path / "dataset/data/half").exists()


def test_a_full_disk_leaves_nothing(recordings, spec, tmp_path, monkeypatch, capsys):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writing, "write_episodes", full)
    out = tmp_path / "dataset"
    assert cli.main(["record", "export", str(recordings), "--out", str(out)]) == 1
    assert "No space left on device" in capsys.readouterr().err and list(tmp_path.iterdir()) == []


def test_pictures_of_another_size_are_passed_over(spec, tmp_path):
    for number, size in enumerate((32, 48)):
        record(tmp_path / "in", spec, story("button", number, 24, size, success_row=9), BEGIN + number * 10**12)
    said = export(tmp_path / "in", tmp_path / "out", spec)
    (reason,) = said.passed_over.values()
    assert len(said.episodes) == 1 and "48" in reason and "32 x 32" in reason
    assert len(dict(rollouts(tmp_path / "out"))) == 1


def test_a_damaged_recording_is_passed_over(recordings, spec, tmp_path):
    shutil.copytree(recordings, tmp_path / "in")
    (bag,) = sorted((tmp_path / "in").glob("*button*/*.mcap"))[:1]
    bag.write_bytes(bag.read_bytes()[:3000])
    said = export(tmp_path / "in", tmp_path / "out", spec)
    assert bag.parent.name in said.passed_over and len(said.episodes) == 1


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "--out: None"),
        (["--out", "{tmp}/out", "--video", "best"], "video: 'best' is not valid; choose one of: lossless, lossy"),
        (["--out", "{tmp}/out", "--robot", "nobody"], "robot: 'nobody'"),
        (["--out", "{tmp}/out", "--robot", "ur5e"], "joints"),
        (["--out", "/proc/out"], "out: '/proc/out'"),
    ],
)
def test_what_cannot_be_exported_is_one_line(recordings, tmp_path, capsys, arguments, told):
    words = [word.replace("{tmp}", str(tmp_path)) for word in arguments]
    assert cli.main(["record", "export", str(recordings), *words]) == 64
    (line,) = capsys.readouterr().err.splitlines()
    assert told in line and list(tmp_path.iterdir()) == []


def test_a_folder_without_a_complete_attempt_is_refused(spec, tmp_path):
    record(tmp_path / "in", spec, story("button", 5, 24), lost=1)
    with pytest.raises(ConfigError, match="expected a complete attempt.*1 messages lost"):
        export(tmp_path / "in", tmp_path / "out", spec)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda d: (d / "meta/info.json").unlink(), "info.json"),
        (lambda d: edit(d, codebase_version="v2.1"), "codebase_version: 'v2.1' is not valid; expected v3.0"),
        (lambda d: edit(d, features={}), "features: 'no observation.state, "),
        (lambda d: (d / f"videos/{CAMERAS[1]}/chunk-000/file-000.mp4").write_bytes(b"none"), "expected an MP4 file"),
        (lambda d: (d / "data/chunk-000/file-000.parquet").write_bytes(b"none"), "a whole dataset"),
    ],
)
def test_what_is_no_dataset_is_refused(exported, tmp_path, change, told):
    shutil.copytree(exported[0], tmp_path / "dataset")
    change(tmp_path / "dataset")
    with pytest.raises(ConfigError) as error:
        import_rollouts(tmp_path / "dataset", tmp_path / "out")
    assert told in str(error.value) and not (tmp_path / "out").exists()


def edit(dataset, **changes):
    (dataset / "meta/info.json").write_text(json.dumps(info(dataset) | changes))


def test_the_command_exports_and_imports(recordings, tmp_path, capsys):
    out, back = str(tmp_path / "dataset"), str(tmp_path / "rollouts")
    assert cli.main(["record", "export", str(recordings), "--out", out]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "passed over" in lines[0] and f"2 episodes, {sum(ROWS)} frames" in lines[-1]
    assert cli.main(["record", "import", out, "--out", back, "--json"]) == 0
    names = json.loads(capsys.readouterr().out)["episodes"]
    assert sorted(f"{name}.npz" for name in names) == sorted(f.name for f in (tmp_path / "rollouts").iterdir())
