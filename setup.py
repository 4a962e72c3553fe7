"""Packaging: every value comes from settings.ini; the wheel carries the notebooks as poster_genres/notebooks."""
import shlex
from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup

root = Path(__file__).parent
parser = ConfigParser(delimiters=["="])
parser.read(root / "settings.ini", encoding="utf-8")
settings = parser["DEFAULT"]
package, notebooks = settings["lib_path"], settings["nbs_path"]
readme = root / "README.md"

setup(
    name=settings["repo"],
    version=settings["version"],
    description=settings["description"],
    long_description=readme.read_text(encoding="utf-8") if readme.exists() else "",
    long_description_content_type="text/markdown",
    author=settings["author"],
    author_email=settings["author_email"],
    url=settings["git_url"],
    keywords=settings["keywords"].split(),
    license=settings["license"].upper(),
    python_requires=f">={settings['min_python']}",
    packages=[*find_packages(include=[package, f"{package}.*"]), f"{package}.notebooks"],
    package_dir={package: package, f"{package}.notebooks": notebooks},
    package_data={package: ["shipped/*"], f"{package}.notebooks": ["*.ipynb", "*/*.ipynb", "*.css", "*.js", "profiles/*.yaml", "results/*.csv", "templates/*.html"]},
    install_requires=shlex.split(settings["requirements"]),
    extras_require={"dev": shlex.split(settings["dev_requirements"]), "pretrained": shlex.split(settings["pretrained_requirements"]),
                    "words": shlex.split(settings["words_requirements"]), "cluster": shlex.split(settings["cluster_requirements"])},
    entry_points={
        "console_scripts": [settings["console_scripts"]],
        "nbdev": [f"{package}={package}._modidx:d"],
    },
    zip_safe=False,
)
