"""Files of a project with a key that this version does not have."""

from __future__ import annotations

import json

import pytest
from tests.project.conftest import FLAT

from napari_boxprompt.boxes import Box
from napari_boxprompt.errors import ProjectError
from napari_boxprompt.project import Project


@pytest.mark.parametrize(
    ("name", "named"),
    [("project.json", r"napari-boxprompt 9\.9"), ("planes.json", "another version of napari-boxprompt")],
)
def test_a_key_of_another_version_is_no_damage(project, name, named):
    project.set_boxes(FLAT, [Box(3, 4, 13, 24, FLAT, "cell")])
    project.close()
    path = project.folder / name
    content = json.loads(path.read_text("utf-8"))
    if "written_by" in content:
        content["written_by"] = "napari-boxprompt 9.9"
    content["images" if "images" in content else "planes"][0]["mood"] = "good"
    path.write_text(json.dumps(content), "utf-8")
    message = rf"{path.name} was written by {named} and has '\w+\.0\.mood'.*run 'pip install -U"
    with pytest.raises(ProjectError, match=message) as caught:
        Project.open(project.folder)
    assert "damaged" not in str(caught.value)
