import json

import pytest

from tunesmith.assets.models import BaseModels
from tunesmith.spec.errors import ModelLoadError, ModelNotFoundError


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "models"
    for name in ("plain", "owner/nested"):
        _write(root / name)
    return root


def _write(folder, *weights):
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"model_type": "llama"}))
    for weight in weights or ("model.safetensors",):
        (folder / weight).touch()


def test_an_alias_wins_over_a_root(root, tmp_path):
    _write(tmp_path / "other")
    assert BaseModels({"plain": tmp_path / "other"}, (root,)).find("plain") == tmp_path / "other"


@pytest.mark.parametrize("name", ["plain", "owner/nested"])
def test_folders_below_a_root_are_found(root, name):
    assert BaseModels({}, (root,)).find(name) == root / name


def test_all_are_listed(root, tmp_path):
    names = [model.name for model in BaseModels({"alias": root / "plain"}, (root,)).listed()]
    assert sorted(names) == ["alias", "owner/nested", "plain"]


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../models/plain", "/etc", "~", "~root", "owner/../plain", "a\\b", "plain\0", "missing"]
)
def test_names_that_lead_elsewhere_are_unknown(root, name):
    models = BaseModels({}, (root,))
    with pytest.raises((ModelNotFoundError, ModelLoadError)) as caught:
        models.find(name)
    assert caught.value.param == "model.base"


def test_a_link_out_of_the_root_is_not_followed(root, tmp_path):
    _write(tmp_path / "outside")
    (root / "link").symlink_to(tmp_path / "outside")
    with pytest.raises(ModelNotFoundError):
        BaseModels({}, (root,)).find("link")


def test_an_unknown_name_is_told_where_it_was_looked_for_without_paths_of_the_server(root):
    with pytest.raises(ModelNotFoundError) as caught:
        BaseModels({"alias": root}, (root,)).find("nobody")
    assert "'alias'" in caught.value.message
    assert "model roots" in caught.value.message
    assert str(root) not in caught.value.message


def test_weights_as_pickle_only_are_refused(tmp_path):
    _write(tmp_path / "pickled", "pytorch_model.bin")
    with pytest.raises(ModelLoadError, match=r"pickle \(pytorch_model.bin\)"):
        BaseModels({}, (tmp_path,)).find("pickled")


def test_a_config_that_is_not_there_is_told_without_its_path(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelLoadError, match=r"no readable config\.json: No such file or directory\.$"):
        BaseModels({}, (tmp_path,)).find("empty")


@pytest.mark.parametrize("config", ["", "[]", "{}", "not json"])
def test_a_broken_config_is_refused(tmp_path, config):
    _write(tmp_path / "broken")
    (tmp_path / "broken" / "config.json").write_text(config)
    with pytest.raises(ModelLoadError, match=r"config\.json"):
        BaseModels({}, (tmp_path,)).find("broken")


def _write_pipeline(folder, **parts):
    for part, weights in parts.items():
        _write(folder / part, weights)
    index = {"_class_name": "FluxPipeline", **{part: ["diffusers", "Part"] for part in parts}}
    (folder / "model_index.json").write_text(json.dumps(index))


def test_a_model_in_parts_is_found_and_its_parts_are_no_models(root):
    _write_pipeline(root / "flux", transformer="diffusion_pytorch_model.safetensors", vae="model.safetensors")
    _write_pipeline(root / "owner" / "flux", transformer="diffusion_pytorch_model.safetensors")
    models = BaseModels({}, (root,))
    assert [model.name for model in models.listed()] == ["flux", "owner/flux", "owner/nested", "plain"]
    assert models.find("owner/flux") == root / "owner" / "flux"


def test_a_part_whose_weights_are_pickled_is_refused_by_name(root):
    _write_pipeline(root / "flux", transformer="diffusion_pytorch_model.safetensors", vae="diffusion_pytorch_model.bin")
    with pytest.raises(ModelLoadError, match=r"the weights of its vae only as pickle"):
        BaseModels({}, (root,)).find("flux")


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"_class_name": 3}'])
def test_a_broken_index_of_parts_is_refused(root, content):
    _write_pipeline(root / "flux", vae="model.safetensors")
    (root / "flux" / "model_index.json").write_text(content)
    with pytest.raises(ModelLoadError, match=r"model_index\.json"):
        BaseModels({}, (root,)).find("flux")
