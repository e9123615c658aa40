"""NLTK's data for splitting English texts, with nothing learned in it: enough to split at spaces and full stops."""

from __future__ import annotations

from pathlib import Path

FILES = ("abbrev_types.txt", "collocations.tab", "ortho_context.tab", "sent_starters.txt")


def install_nltk_data(root: Path, abbreviations: str = "") -> Path:
    """Write the data below `root`, as NLTK's downloader does below a folder of its search path."""
    folder = root / "tokenizers" / "punkt_tab" / "english"
    folder.mkdir(parents=True)
    for name in FILES:
        (folder / name).write_text("")
    (folder / FILES[0]).write_text(abbreviations)
    return root
