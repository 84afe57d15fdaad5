# SPDX-License-Identifier: GPL-2.0-only
"""Are the container examples such as Kubernetes takes, and the programs?

usage: containers.py SCX_FLEXNET FLEXNET

Names by RFC 1123, selectors, mounts and their volumes, the group that daemon and
pod agree on; the configuration is checked by the daemon, commands by the tool.
No schema of Kubernetes is at hand: kubectl apply --dry-run=server has the last
word.
"""
import pathlib
import re
import subprocess
import sys
import yaml

root = pathlib.Path(__file__).resolve().parents[2]
folder = root / "packaging/containers"
daemon, tool = sys.argv[1:]
NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
KEY = re.compile(r"([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
API = {"ConfigMap": "v1", "DaemonSet": "apps/v1", "Pod": "v1"}
TYPES = {"Directory", "DirectoryOrCreate"}
found = []


def want(condition, text):
    if not condition:
        found.append(text)


def named(where, name):
    want(isinstance(name, str) and NAME.fullmatch(name), f"{where}: {name!r} is no name (RFC 1123)")


def labelled(where, labels):
    for key, value in labels.items():
        want(KEY.fullmatch(key), f"{where}: {key!r} is no label's name")
        want(isinstance(value, str) and VALUE.fullmatch(value), f"{where}: {value!r} is no label's value")


def pod(where, spec, maps):
    volumes = {}
    for volume in spec["volumes"]:
        named(where, volume["name"])
        want(len(volume) == 2, f"{where}: volume {volume['name']} has not one source")
        if "hostPath" in volume:
            want(volume["hostPath"]["type"] in TYPES, f"{where}: {volume['hostPath']}")
        if "configMap" in volume:
            want(volume["configMap"]["name"] in maps, f"{where}: no ConfigMap {volume['configMap']['name']}")
        volumes[volume["name"]] = volume
    labelled(where, spec.get("nodeSelector", {}))
    for container in spec["containers"]:
        named(where, container["name"])
        want(re.fullmatch(r"[a-z0-9./-]+:[\w.-]+", container["image"]), f"{where}: {container['image']} has no tag")
        mounted = [mount["name"] for mount in container["volumeMounts"]]
        want(sorted(mounted) == sorted(volumes), f"{where}: mounts {mounted}, volumes {sorted(volumes)}")
        paths = {mount["mountPath"]: volumes.get(mount["name"], {}) for mount in container["volumeMounts"]}
        shared = paths.get("/run/scx_flexnet", {}).get("hostPath", {}).get("path")
        want(shared == "/run/scx_flexnet", f"{where}: the socket's directory is {shared}")
        for probe in ("startupProbe", "livenessProbe"):
            if probe in container:
                command = container[probe]["exec"]["command"]
                want(takes(command), f"{where}: {command}")
        command = container.get("command", []) + container.get("args", [])
        want(not command or takes(command), f"{where}: {command}")


def takes(command):
    """Has the tool, or flexnet-bench beside it, such a command, with such options?"""
    if not command or command[0] not in ("flexnet", "flexnet-bench"):
        return False
    run = subprocess.run([pathlib.Path(tool).with_name(command[0]), *command[1:], "--help"], capture_output=True, text=True)
    known = set(re.findall(r"(--[a-z-]+)", run.stdout))
    return run.returncode == 0 and {word for word in command if word.startswith("--")} <= known


documents = [
    (path.name, document)
    for path in sorted(folder.glob("*.yaml"))
    for document in yaml.safe_load_all(path.read_text())
]
maps = {document["metadata"]["name"] for _, document in documents if document["kind"] == "ConfigMap"}
groups = {}
for name, document in documents:
    kind = document["kind"]
    want(document["apiVersion"] == API.get(kind), f"{name}: {kind} of {document['apiVersion']}")
    named(name, document["metadata"]["name"])
    labelled(name, document["metadata"].get("labels", {}))
    if kind == "ConfigMap":
        text = document["data"]["config.toml"]
        check = [daemon, "--check-config", "--config", "/dev/stdin"]
        run = subprocess.run(check, input=text, capture_output=True, text=True)
        want(run.returncode == 0, f"{name}: {run.stderr}")
        groups["daemon"] = re.search(r'socket-group = "(\d+)"', text)[1]
    elif kind == "DaemonSet":
        template = document["spec"]["template"]
        selector = document["spec"]["selector"]["matchLabels"]
        want(selector.items() <= template["metadata"]["labels"].items(), f"{name}: the selector selects nothing")
        pod(name, template["spec"], maps)
        want(template["spec"]["hostPID"] and template["spec"]["hostNetwork"], f"{name}: not the machine's")
    elif kind == "Pod":
        pod(name, document["spec"], maps)
        groups["pod"] = str(document["spec"]["securityContext"]["supplementalGroups"][0])
want({name for name, _ in documents} == {"daemonset.yaml", "pod.yaml"}, "not two files")
want(groups.get("daemon") == groups.get("pod"), f"daemon and pod have different groups: {groups}")
version = re.search(r'^version = "(.*)"', (root / "Cargo.toml").read_text().split("[workspace.package]")[1], re.M)[1]
for path in folder.iterdir():
    for tag in re.findall(r"(?:scx-flexnet|flexnet-bench):([\w.]+)", path.read_text()):
        want(tag == version, f"{path.name}: image of {tag}, this is {version}")
print("\n".join(found) or "the container examples are sound")
sys.exit(bool(found))
