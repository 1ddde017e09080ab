"""The .deb on a Debian 12 without a network: installed by dpkg alone, it serves, and clients outside get answers."""

from installed_box import SOCKET, STATE, Box


def test_the_service_is_active_when_dpkg_is_done(installed) -> None:
    assert installed.active == "active", installed.said
    assert "failed" not in installed.said.lower(), installed.said


def test_where_state_and_socket_are(shared_box: Box) -> None:
    assert shared_box.show("StatusText").startswith("serving 3 models on 127.0.0.1:8001")
    place = shared_box.machine.run("stat", "-c", "%n %U %G %a", STATE, f"{STATE}/store", SOCKET).stdout.splitlines()
    user = "inference-appliance inference-appliance"
    assert place == [f"{STATE} {user} 750", f"{STATE}/store {user} 700", f"{SOCKET} {user} 660"]
