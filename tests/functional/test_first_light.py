"""The whole path once: an empty daemon, a model added, a call, an orderly stop."""

from daemon_process import Daemon


def test_add_infer_stop(daemon: Daemon, fake_folder) -> None:
    daemon.add(fake_folder("echo"))
    assert daemon.model("echo").state == "ready"
    answer = daemon.cli("infer", "echo", "-", "--json", stdin='{"x": [1.5, 2.5]}').stdout
    assert "1.5" in answer
    assert daemon.stop() == 0
    assert not daemon.socket.exists()
