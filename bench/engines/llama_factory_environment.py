"""Makes an environment in which LLaMA-Factory trains: python bench/engines/llama_factory_environment.py FOLDER.

Its requirements bring torchvision and torchaudio, which do not import beside a processor-only torch. Both go again, and
an empty module answers its import of torchaudio.
"""

import subprocess
import sys
import venv
from pathlib import Path

_TORCH = "torch==2.13.0"
_VERSION = "0.9.5"


def main(folder: Path) -> None:
    """Install, and take away what breaks."""
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    pip = [str(python), "-m", "pip"]
    subprocess.run([*pip, "install", _TORCH], check=True)
    subprocess.run([*pip, "install", f"llamafactory=={_VERSION}", _TORCH], check=True)
    subprocess.run([*pip, "uninstall", "--yes", "torchvision", "torchaudio"], check=True)
    answer = subprocess.run(
        [str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        check=True,
        capture_output=True,
        text=True,
    )
    Path(answer.stdout.strip(), "torchaudio.py").touch()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
