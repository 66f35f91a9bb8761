"""The environment of the middleware, as every process of ours gets it."""

import os
import socket
import subprocess
import sys
import time

from vla_mbpo.paths import ros_environment

ALONE = "import rclpy, time; rclpy.init(); node = rclpy.create_node('alone'); print('up', flush=True); time.sleep(10)"


def announcements(begin, end):
    """Datagrams of a new participant to one that might be there, between two times [s] since it is up; its output."""
    port = 7400 + 250 * int(os.environ["ROS_DOMAIN_ID"]) + 10 + 2 * 20  # of the domain's participant 20 (DDSI 9.6.1.1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as heard:
        heard.bind(("127.0.0.1", port))
        heard.settimeout(0.1)
        process = subprocess.Popen(
            [sys.executable, "-c", ALONE],
            env=dict(os.environ),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        output, count = process.stdout.readline(), 0
        up = time.monotonic()
        while (now := time.monotonic() - up) < end:
            try:
                count += bool(heard.recv(65536)) and now > begin
            except TimeoutError:
                continue
        process.kill()
        return count, output + process.communicate()[0]


def test_a_participant_goes_on_announcing_itself_while_others_load():
    """Incident: a stack's gate was up after 3.5 s, and the lifecycle manager heard of it after 8.3 s."""
    count, output = announcements(1.0, 2.5)
    assert count >= 5 and output == "up\n"


def test_a_profile_of_the_users_own_is_kept(monkeypatch):
    name = "FASTDDS_DEFAULT_PROFILES_FILE"
    monkeypatch.setenv(name, "mine.xml")
    assert ros_environment()[name] == "mine.xml"
    monkeypatch.delenv(name)
    monkeypatch.setenv("FASTRTPS_DEFAULT_PROFILES_FILE", "mine.xml")
    assert name not in ros_environment()
