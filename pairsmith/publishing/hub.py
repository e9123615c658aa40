"""Uploads the version that `latest` leads to to the Hugging Face Hub, where the recipe asks for it."""

from __future__ import annotations

import os

from pairsmith.config import Recipe
from pairsmith.errors import ConfigError
from pairsmith.publishing.publish import Published
from pairsmith.storage import versions
from pairsmith.storage.exporting import plain_folder
from pairsmith.storage.store import Store


def push_to_hub(recipe: Recipe, store: Store, published: Published) -> str | None:
    """Upload the version that `latest` leads to, unless it is there; returns its URL, or None where nothing was done.

    The repository is private unless the recipe says otherwise. The last upload is noted in the store, so the next run
    makes up for one that failed, or for a release by a person.
    """
    version = versions.version_at(store, published.latest) if published.latest else None
    if version is None:
        return None
    import huggingface_hub

    hub = recipe.publishing.hub
    assert hub is not None
    upload = {"repo_id": hub.repo_id, "digest": version.digest}
    if store.known_json("pushed.json") == upload:
        return None
    token = os.environ.get(hub.token_env)
    if not token:
        raise ConfigError(f"publishing.hub: the environment variable {hub.token_env} holds no token")
    api = huggingface_hub.HfApi(token=token)
    api.create_repo(hub.repo_id, repo_type="dataset", private=hub.private, exist_ok=True)
    if hub.private and not api.dataset_info(hub.repo_id).private:
        raise ConfigError(f"publishing.hub: {hub.repo_id} is public; say private: false, or choose another repo_id")
    with plain_folder(store, version) as folder:
        api.upload_folder(
            repo_id=hub.repo_id,
            repo_type="dataset",
            folder_path=str(folder),
            commit_message=f"{recipe.name} {version.name}",
            delete_patterns=["data/*", "kto/*", "reward/*", "jsonl/*", "csv/*"],
        )
    store.write_json("pushed.json", upload)
    return f"{api.endpoint}/datasets/{hub.repo_id}"
