"""Train the model that comes with npnlp, and put it, its card and what it was made with in place.

    python tools/own_model.py

It is what ``npnlp train`` makes of the project's own table with nothing but its defaults.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from npnlp import Classifier
from npnlp.classifier.model_file import own_model_path
from npnlp.text import own_table_path, read_table


def answers_sha256(classifier: Classifier) -> str:
    """The hash of the model's answers to the test names of its table."""
    frame = read_table(own_table_path())
    names = frame.loc[frame["split"] == "test", "surname"]
    answers = [each.nationality for each in classifier.predict(names)]
    return hashlib.sha256("\n".join(answers).encode()).hexdigest()


def main() -> None:
    """Train, copy and describe."""
    target = own_model_path()
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        command = [sys.executable, "-m", "npnlp", "train", "--save-dir", str(run), "--no-pictures"]
        subprocess.run(command, check=True)
        shutil.copy(run / "model.safetensors", target)
        shutil.copy(run / "MODEL_CARD.md", target.with_name("MODEL_CARD.md"))
        environment = json.loads((run / "metrics.json").read_text(encoding="utf-8"))["environment"]
    described = {
        "sha256": hashlib.sha256(target.read_bytes()).hexdigest(),
        "answers_sha256": answers_sha256(Classifier.load()),
        "environment": environment,
    }
    text = json.dumps(described, indent=2) + "\n"
    target.with_name("model.json").write_text(text, encoding="utf-8")
    print(f"wrote {target}, {target.stat().st_size:,} bytes, sha256 {described['sha256']}")


if __name__ == "__main__":
    main()
