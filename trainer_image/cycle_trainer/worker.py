"""A worker pod: sshd as a plain user on a read-only root, for mpirun to start ranks through.

What sshd needs to write (host key, configuration, the copy of the authorized key) goes to a new folder in TMPDIR.
"""

import logging
import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from types import FrameType

from cycle_wire.training import TrainingConfig

logger = logging.getLogger(__name__)

SSHD = "/usr/sbin/sshd"
PUBLIC_KEY = Path("/etc/cycleops-ssh/ssh-publickey")
# Files of a Secret are links that root owns, hence no StrictModes; a read-only root has no place for PAM or a PID file.
CONFIGURATION = """\
Port {port}
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/authorized_keys
AuthenticationMethods publickey
StrictModes no
UsePAM no
PidFile none
PrintMotd no
MaxStartups 512
LogLevel ERROR
AllowTcpForwarding no
X11Forwarding no
PermitUserEnvironment no
"""
STOP_SECONDS = 10
STOPPED = 128 + signal.SIGTERM


def run(config: TrainingConfig, *, public_key: Path = PUBLIC_KEY) -> int:
    """Serve until a signal. Never 0: a worker that ends counts as done to its Job, and would not be replaced."""
    with tempfile.TemporaryDirectory(prefix="cycle-sshd-") as name:
        folder = Path(name)
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / "host_key")], check=True)
        shutil.copyfile(public_key, folder / "authorized_keys")
        settings = folder / "sshd_config"
        settings.write_text(CONFIGURATION.format(port=config.ssh_port, folder=folder), encoding="utf-8")
        return _serve([SSHD, "-D", "-e", "-f", str(settings)], port=config.ssh_port)


def _serve(command: list[str], *, port: int) -> int:
    stopping = False
    # Sessions stay in sshd's process group, so that a stop reaches the ranks too.
    server = subprocess.Popen(command, start_new_session=True)

    def stop(number: int, _: FrameType | None) -> None:
        nonlocal stopping
        stopping = True
        logger.info("%s: stopping sshd", signal.Signals(number).name)
        os.killpg(server.pid, signal.SIGTERM)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    logger.info("sshd listens on port %d", port)
    code = server.wait()
    return STOPPED if stopping else code or 1
