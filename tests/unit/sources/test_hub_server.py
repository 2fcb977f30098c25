import os
import subprocess
import sys


def test_the_official_client_is_content_with_the_hub_of_the_tests(hub, tmp_path):
    files = {"config.json": b"{}", "model.safetensors": os.urandom(50_000), "sub/notes.txt": b"notes"}
    commit = hub.publish("model", "owner/model", files, private=True)
    script = (
        "import sys; from huggingface_hub import snapshot_download;"
        "print(snapshot_download('owner/model', endpoint=sys.argv[1], token=sys.argv[2], cache_dir=sys.argv[3]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, hub.url, hub.TOKEN, str(tmp_path)],
        env={**os.environ, "HF_HUB_OFFLINE": "0"},
        capture_output=True,
        text=True,
        check=True,
    )
    folder = tmp_path / "models--owner--model" / "snapshots" / commit
    assert done.stdout.strip() == str(folder)
    assert {name: (folder / name).read_bytes() for name in files} == files
