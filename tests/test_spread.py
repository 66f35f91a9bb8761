"""Jobs in processes and on Ray: same results, errors come home, workers end with who asked for them."""

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from vla_mbpo.cli import main
from vla_mbpo.core.errors import ConfigError
from vla_mbpo.spread import LOCAL, Place, crew, nothing, spread

PARENT = """
import os, sys, time
import test_spread
from vla_mbpo.spread import Place, nothing, spread
if __name__ == "__main__":
    for pid in spread(Place(2, sys.argv[1] if len(sys.argv) > 1 else None), test_spread.forever, range(4), nothing):
        print(pid, flush=True)
"""


def needs_ray():
    """As importorskip, without the import: the stack has to do that itself, see spread.cluster."""
    if importlib.util.find_spec("ray") is None:
        pytest.skip("needs Ray: `pip install -e '.[ray]'`")


def prepared(base):
    return base


def plus(state, shared, job):
    return state + shared + job


def refuse(_state, _shared, job):
    raise ConfigError("job", job, "another one")


def forever(_state, _shared, job):
    if job > 1:
        time.sleep(600.0)
    return os.getpid()


def kill(_state, _shared, _job):
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture(params=[None, LOCAL])
def place(request, monkeypatch):
    if request.param:
        needs_ray()
        monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))  # Ray's workers import the functions from here
    return Place(2, request.param)


def test_every_job_is_done_once_with_the_workers_state(place):
    with crew(place, prepared, 100) as workers:
        assert sorted(workers.each(plus, range(9), 10)) == list(range(110, 119))
        assert sorted(workers.each(plus, range(3), 20)) == [120, 121, 122]  # the same workers again


def test_what_a_worker_refuses_is_refused_here(place):
    with pytest.raises(ConfigError, match="another one"):
        list(spread(place, refuse, range(4), nothing))


def test_a_job_that_kills_its_worker_is_an_error_and_no_wait(place):
    with pytest.raises(Exception, match="(?i)terminated|died"):
        list(spread(place, kill, range(4), nothing))


def test_workers_end_with_who_asked_for_them(place, tmp_path):
    """Also when that one is killed: nothing may go on computing."""
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    left = tempfile.mkdtemp()  # what a killed one leaves behind; sockets are there, which allow no long path
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent), "TMPDIR": left}
    arguments = [place.ray] if place.ray else []
    parent = subprocess.Popen([sys.executable, str(script), *arguments], stdout=subprocess.PIPE, env=environment)
    workers = {int(parent.stdout.readline()) for _ in range(2)}
    parent.kill()
    parent.wait()
    until = time.monotonic() + 30.0
    while any(map(alive, workers)):
        assert time.monotonic() < until
        time.sleep(0.1)
    shutil.rmtree(left, ignore_errors=True)


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_cluster_that_is_started_here_is_heard_by_this_machine_alone(monkeypatch):
    """What Ray's ports are told is run."""
    needs_ray()
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    with crew(Place(1, LOCAL), prepared, 1) as workers:
        assert list(workers.each(plus, [1], 1)) == [3]
        heard = listening(descendants(os.getpid()))
    assert heard and all(address.endswith("0100007F") for address in heard)


def descendants(pid):
    """Process ids, parents first."""
    children = [int(child) for task in Path(f"/proc/{pid}/task").iterdir()
                for child in (task / "children").read_text().split()]  # fmt: skip
    return children + [one for child in children for one in descendants(child)]


def listening(pids):
    """Local addresses of the TCP sockets on which these processes listen, as in /proc/net: IPv4 in the last digits."""
    links = {os.readlink(link) for pid in pids for link in Path(f"/proc/{pid}/fd").iterdir() if link.is_symlink()}
    rows = [line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]]
    return [row[1].split(":")[0] for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in links]


@pytest.mark.parametrize("address", ["nonsense", "127.0.0.1:1", "127.0.0.1:99999", "nowhere.invalid:6379"])
def test_an_address_where_no_ray_is_says_so_at_once(address):
    needs_ray()
    with pytest.raises(ConfigError, match=f"--ray.*{address}.*HOST:PORT"):
        Place(2, address).check()


def test_without_ray_the_option_says_what_to_install(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    arguments = ["eval", "--bundle", "expert", "--episodes", "1", "--json", str(tmp_path / "x.json"), "--ray"]
    assert main(arguments) == 64
    assert "'.[ray]'" in capsys.readouterr().err


def test_ray_is_imported_only_when_asked_for():
    code = "import sys, vla_mbpo.eval.command, vla_mbpo.spread; print({'ray', 'torch', 'rclpy'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"
