"""The exported dataset against LeRobotDataset v3 as it is published: files, columns, types, what they must agree on."""

import json

import numpy as np
import pytest

pytest.importorskip("av", reason="needs the extra `export`: `make setup-dev`")
pq = pytest.importorskip("pyarrow.parquet", reason="needs the extra `export`: `make setup-dev`")

from lerobot_samples import CAMERAS, ROWS, SIZE, decoded, info, stories, table  # noqa: E402

INFO = {  # of info.json
    "codebase_version": str,
    "robot_type": str,
    "total_episodes": int,
    "total_frames": int,
    "total_tasks": int,
    "chunks_size": int,
    "data_files_size_in_mb": int,
    "video_files_size_in_mb": int,
    "fps": int,
    "splits": dict,
    "data_path": str,
    "video_path": str,
    "features": dict,
}
INDEX = {  # features that LeRobot gives to every dataset
    "timestamp": "float32",
    "frame_index": "int64",
    "episode_index": "int64",
    "index": "int64",
    "task_index": "int64",
}
VIDEO_INFO = {
    "video.height": SIZE,
    "video.width": SIZE,
    "video.codec": "h264",
    "video.pix_fmt": "gbrp",
    "video.is_depth_map": False,
    "video.fps": 20,
    "video.channels": 3,
    "has_audio": False,
}
EPISODE = {  # columns of the table of episodes, without those of videos and statistics
    "episode_index": "int64",
    "tasks": "list<element: string>",
    "length": "int64",
    "data/chunk_index": "int64",
    "data/file_index": "int64",
    "dataset_from_index": "int64",
    "dataset_to_index": "int64",
    "meta/episodes/chunk_index": "int64",
    "meta/episodes/file_index": "int64",
}
OF_VIDEO = {"chunk_index": "int64", "file_index": "int64", "from_timestamp": "double", "to_timestamp": "double"}
STATISTICS = ("min", "max", "mean", "std", "count", "q01", "q10", "q50", "q90", "q99")
ARROW = {"float32": "float", "bool": "bool", "int64": "int64"}
TOLERANCE = 1e-4  # s; LeRobot's between the stamp that it asks for and a frame's


@pytest.fixture
def dataset(exported):
    return exported[0]


def test_info_has_what_lerobot_reads(dataset):
    content = info(dataset)
    assert {name: type(value) for name, value in content.items()} == INFO
    assert content["codebase_version"] == "v3.0" and content["fps"] == 20
    totals = (content["total_episodes"], content["total_frames"], content["total_tasks"])
    assert totals == (2, sum(ROWS), 2) and content["splits"] == {"train": "0:2"}


def test_files_are_where_lerobot_looks_for_them(dataset):
    content = info(dataset)
    assert content["data_path"] == "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
    assert content["video_path"] == "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
    found = {str(file.relative_to(dataset)) for file in dataset.rglob("*") if file.is_file()}
    assert found == {
        "meta/info.json",
        "meta/stats.json",
        "meta/tasks.parquet",
        "meta/episodes/chunk-000/file-000.parquet",
        "data/chunk-000/file-000.parquet",
        "videos/observation.images.head/chunk-000/file-000.mp4",
        "videos/observation.images.wrist/chunk-000/file-000.mp4",
        "plans/chunk-000/file-000.parquet",  # LeRobot reads none of it
    }


def test_every_feature_is_described_as_lerobot_does(dataset, spec):
    features = info(dataset)["features"]
    assert {name: features[name]["dtype"] for name in INDEX} == INDEX
    for name, feature in features.items():
        assert "/" not in name and {"dtype", "shape", "names"} <= set(feature)
    for key in CAMERAS:
        video = {"dtype": "video", "shape": [SIZE, SIZE, 3], "names": ["height", "width", "channels"]}
        assert features[key] == video | {"info": VIDEO_INFO}
    names = [*(f"{joint}.position_rad" for joint in spec.joints), "gripper.opening_m"]
    for name in ("observation.state", "action"):
        assert features[name] == {"dtype": "float32", "shape": [8], "names": names}


def test_the_columns_are_those_features_with_their_types(dataset):
    features = {name: one for name, one in info(dataset)["features"].items() if one["dtype"] != "video"}
    schema = pq.read_schema(dataset / "data/chunk-000/file-000.parquet")
    assert set(schema.names) == set(features)
    for name, feature in features.items():
        size, kind = feature["shape"][0], ARROW[feature["dtype"]]
        expected = kind if size == 1 else f"fixed_size_list<item: {kind}>[{size}]"
        assert str(schema.field(name).type).replace("element", "item") == expected, name


def test_the_table_of_episodes_has_lerobots_columns(dataset):
    schema = pq.read_schema(dataset / "meta/episodes/chunk-000/file-000.parquet")
    expected = EPISODE | {f"videos/{key}/{name}": kind for key in CAMERAS for name, kind in OF_VIDEO.items()}
    found = {name: str(schema.field(name).type).replace("item", "element") for name in expected}
    assert found == expected
    features = info(dataset)["features"]
    statistics = {f"stats/{feature}/{name}" for feature in features for name in STATISTICS}
    assert {name for name in schema.names if name.startswith("stats/")} == statistics


def test_episodes_frames_and_videos_agree(dataset):
    frames, end = table(dataset, "data"), 0
    for number, episode in enumerate(table(dataset, "meta/episodes")):
        assert episode["episode_index"] == number and episode["dataset_from_index"] == end
        end = episode["dataset_to_index"]
        own = frames[episode["dataset_from_index"] : end]
        assert len(own) == episode["length"] == ROWS[number]
        assert {frame["episode_index"] for frame in own} == {number}
        for key in CAMERAS:
            span = [episode[f"videos/{key}/{name}"] for name in ("from_timestamp", "to_timestamp")]
            assert np.allclose(np.array(span) * 20, [end - len(own), end], atol=1e-9)
    assert end == len(frames) == info(dataset)["total_frames"]
    assert [frame["index"] for frame in frames] == list(range(end))
    assert [frame["frame_index"] for frame in frames] == [*range(ROWS[0]), *range(ROWS[1])]
    assert all(frame["timestamp"] == np.float32(frame["frame_index"] / 20) for frame in frames)
    assert [frame["next.done"] for frame in frames] == [n + 1 in (ROWS[0], end) for n in range(end)]


def test_instructions_are_the_index_of_the_tasks(dataset):
    tasks = pq.read_table(dataset / "meta/tasks.parquet")
    about = json.loads(tasks.schema.metadata[b"pandas"])
    assert about["index_columns"] == ["task"] and str(tasks.schema.field("task_index").type) == "int64"
    numbers = dict(zip(tasks["task"].to_pylist(), tasks["task_index"].to_pylist(), strict=True))
    assert numbers == {"press the button": 0, "open the drawer": 1}
    of = {frame["episode_index"]: frame["task_index"] for frame in table(dataset, "data")}
    assert [numbers[e["tasks"][0]] for e in table(dataset, "meta/episodes")] == [of[0], of[1]]


@pytest.mark.parametrize("camera", range(2))
def test_frame_i_of_a_video_is_observation_i(dataset, camera):
    pictures, stamps, keys = decoded(dataset / f"videos/{CAMERAS[camera]}/chunk-000/file-000.mp4")
    first, second = ((one.head, one.wrist)[camera] for one in stories())
    shown = second[: ROWS[1]].copy()
    shown[11:14] = shown[10]  # what was not seen: the picture before it
    expected = np.concatenate([first[: ROWS[0]], shown])
    assert pictures.shape == expected.shape and (pictures == expected).all()
    assert np.abs(np.array(stamps) - np.arange(len(pictures)) / 20).max() < TOLERANCE
    assert {0, ROWS[0]} <= set(keys) and max(np.diff(keys)) <= 10


def test_statistics_are_those_of_the_data(dataset):
    frames, found = table(dataset, "data"), json.loads((dataset / "meta/stats.json").read_text())
    features = info(dataset)["features"]
    assert set(found) == set(features) and all(set(one) == set(STATISTICS) for one in found.values())
    for name in set(features) - set(CAMERAS):
        values = np.array([frame[name] for frame in frames], np.float64).reshape(len(frames), -1)
        for what in ("min", "max", "mean", "std"):
            assert np.allclose(found[name][what], getattr(values, what)(axis=0)), (name, what)
        assert np.allclose(found[name]["q90"], np.quantile(values, 0.9, axis=0))
        assert found[name]["count"] == [len(frames)]


def test_statistics_of_pictures_are_those_of_their_channels(dataset):
    found = json.loads((dataset / "meta/stats.json").read_text())
    for key in CAMERAS:
        pixels = decoded(dataset / f"videos/{key}/chunk-000/file-000.mp4")[0].reshape(-1, 3) / 255
        for what in ("min", "max", "mean", "std"):
            assert np.shape(found[key][what]) == (3, 1, 1)
            assert np.allclose(np.ravel(found[key][what]), getattr(pixels, what)(axis=0))
        assert np.allclose(np.ravel(found[key]["q50"]), np.quantile(pixels, 0.5, axis=0), atol=1 / 255)
        assert found[key]["count"] == [sum(ROWS)]


def test_statistics_of_episodes_add_up_to_those_of_all(dataset):
    found = json.loads((dataset / "meta/stats.json").read_text())
    episodes = table(dataset, "meta/episodes")
    for name in ("action", "observation.images.head", "intervention"):
        means = np.array([episode[f"stats/{name}/mean"] for episode in episodes])
        assert np.allclose(np.average(means, axis=0, weights=ROWS), found[name]["mean"])
        assert [episode[f"stats/{name}/count"] for episode in episodes] == [[rows] for rows in ROWS]


def test_columns_say_who_was_in_command_and_what_was_thought_of_it(dataset):
    frames = table(dataset, "data")[: ROWS[0]]
    column = {name: np.array([frame[name] for frame in frames]) for name in frames[0]}
    # A person from row 20 on: heard of 6 ms into it, and for the last time 6 ms into row 30.
    assert np.flatnonzero(column["intervention"]).tolist() == list(range(20, 31))
    verdicts = np.repeat([1, 2, 3, 0], 8)  # of chunk sets 1, 2 and 3; none of the fourth
    assert (column["verdict"][: len(verdicts)] == verdicts).all()
    assert np.flatnonzero(column["vetoed"]).tolist() == [8, 24] and column["vetoed"].max() == 1
    assert np.flatnonzero(column["alarm"]).tolist() == list(range(32, ROWS[0]))
    assert np.flatnonzero(column["cost"]).tolist() == [7, 33]
    assert np.flatnonzero(column["look"]).tolist() == list(range(0, ROWS[0], 8))
    assert np.flatnonzero(column["next.success"]).tolist() == list(range(45, ROWS[0]))


def test_actions_are_the_commanded_rows_and_states_what_was_measured(dataset):
    frames, first = table(dataset, "data")[: ROWS[0]], stories()[0]
    wanted = np.concatenate([first.positions, first.opening[:, None]], 1)
    for name, expected in (("observation.state", wanted[:-1]), ("action", wanted[1:])):
        assert np.allclose([frame[name] for frame in frames], expected, atol=1e-6), name
    velocities = [frame["observation.velocity"] for frame in frames]
    assert np.allclose(velocities, 0.1 * first.positions[:-1], atol=1e-6)


def test_how_an_episode_ended_is_in_the_table(dataset):
    good, bad = table(dataset, "meta/episodes")
    assert (good["outcome"], good["failed"], good["cost_events"]) == ("succeeded", False, ["drop", "drop"])
    assert (bad["outcome"], bad["failed"], bad["cost_events"]) == ("failed", True, [])
    assert good["intervened_frames"] == 11 and good["policy"] == "made_up@0123456789ab"


def test_frames_without_a_picture_say_so(dataset):
    frames = table(dataset, "data")[ROWS[0] :]
    assert [frame["frame_index"] for frame in frames if not frame["seen"]] == [11, 12, 13]


def test_incomplete_recordings_are_passed_over_and_listed(exported):
    _, said = exported
    (reason,) = said.passed_over.values()
    assert "2 messages lost" in reason and len(said.episodes) == 2
    assert said.frames == sum(ROWS) and said.seconds == pytest.approx(sum(ROWS) / 20)
