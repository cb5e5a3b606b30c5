"""python -m demo: a cluster, the operator, the example manifests, a load, and out/demo/report.json."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from rich.console import Console

from demo import load, plots, report, tables, watch
from demo.install import ROOT, InstallError, install_operator, prepare_namespace
from demo.narrator import Narrator
from tests.cluster.binaries import binary
from tests.cluster.choose import running_cluster, start_cluster
from tests.cluster.clusters import Cluster
from tests.cluster.kubectl import Kubectl, KubectlError, WaitTimeout
from tests.cluster.paths import ClusterError

NAMESPACE = "demo"
NAME = "supersense"
EXAMPLES = ROOT / "examples"
Object = dict[str, Any]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--seconds", type=int, default=60, help="how long the load lasts (default 60)")
    parser.add_argument("--output", type=Path, default=ROOT / "out/demo", help="where the report and plots go")
    return parser.parse_args()


def main() -> int:
    options = arguments()
    console = Console(highlight=False)
    narrator = Narrator(console)
    try:
        run(options, narrator)
    except (watch.DemoError, InstallError, KubectlError, WaitTimeout, ClusterError) as error:
        console.print(f"[bold red]The demo stopped:[/] {error}", markup=True)
        left = "The cluster is still up: `make demo-down` removes it. " if running_cluster() else ""
        console.print(f"{left}`make demo` goes on from where it stopped.")
        return 1
    return 0


def run(options: argparse.Namespace, narrator: Narrator) -> None:
    with narrator.step("Cluster"):
        cluster = start_cluster(detached=True)
    kubectl = Kubectl(cluster.kubeconfig, str(binary("kubectl")), NAMESPACE)
    with narrator.step("Images"):
        images = cluster.load_images("operator", "trainer", "server", "balancer", "demo-data")
    with narrator.step("Operator (Helm chart)"):
        install_operator(kubectl=kubectl, helm=binary("helm"), images=images)
    with narrator.step("Data: MiniLM weights and WordNet glosses onto the claims"):
        kubectl.delete("job", "demo-data")
        prepare_namespace(kubectl=kubectl, namespace=NAMESPACE, demo_data_image=images["demo-data"])
    with narrator.step("CycleJob: train on 2 workers, make 4 variants, measure each"):
        job = train(kubectl, narrator)
    with narrator.step("CycleService: plan and deploy"):
        kubectl.delete("cycleservice", NAME)
        kubectl.apply(EXAMPLES / "cycleservice.yaml")
        service = watch.service(kubectl, NAME, narrator)
    with narrator.step(f"Load: Poisson arrivals for {options.seconds} s through the balancer"):
        # The prediction is what the status said before the load.
        measured = load.run(
            kubectl=kubectl,
            service=service,
            image=images["server"],
            duration_seconds=options.seconds,
            narrator=narrator,
        )
    finish(options.output, narrator.console, kubectl=kubectl, job=job, service=service, measured=measured)
    look_around(narrator.console, cluster)


def train(kubectl: Kubectl, narrator: Narrator) -> Object:
    """Apply the hardware classes and the job, from the start: a finished job of an earlier run is removed."""
    kubectl.apply(EXAMPLES / "hardwareclass.yaml")
    kubectl.delete("cyclejob", NAME)
    kubectl.apply(EXAMPLES / "cyclejob.yaml")
    return watch.job(kubectl, NAME, narrator)


def finish(folder: Path, console: Console, *, kubectl: Kubectl, job: Object, service: Object, measured: Object) -> None:
    """Write report.json and the plots, print the tables."""
    folder.mkdir(parents=True, exist_ok=True)
    names = {entry["name"] for entry in job["status"]["profiles"]}
    profiles = [item for item in kubectl.list("cycleprofiles") if item["metadata"]["name"] in names]
    made = report.build(job=job, service=service, profiles=profiles, load=measured)
    (folder / "report.json").write_text(json.dumps(made, indent=2) + "\n")
    budget_ms = float(service["spec"]["budget"]["latency"]["milliseconds"])
    files = plots.frontier(made["plan"]["frontier"], made["plan"], budget_ms, folder)
    files += plots.latency(measured, made["plan"]["predicted"], budget_ms, folder)
    for item in (tables.variants(made), tables.profiles(profiles), tables.rejected(made)):
        console.print(item)
    console.print("[bold]The plan[/]")
    for reason in made["plan"]["reasons"]:
        console.print(f"  {reason}")
    console.print(tables.comparison(made))
    seen = made["measured"]
    console.print(
        f"{seen['requests']} requests, {seen['errors']} errors, cache hit ratio {seen['cacheHitRatio']:.2f}; "
        f"budget: p{service['spec']['budget']['latency']['percentile']} <= {budget_ms:g} ms"
    )
    console.print(f"Written: {', '.join(str(path) for path in [folder / 'report.json', *files])}")


def look_around(console: Console, cluster: Cluster) -> None:
    console.print("\nThe cluster stays up. To look around:")
    console.print(f"  export KUBECONFIG={cluster.kubeconfig} PATH={binary('kubectl').parent}:$PATH")
    console.print("  kubectl -n demo get cyclejobs,cycleprofiles,cycleservices")
    console.print("To remove it: make demo-down")


if __name__ == "__main__":
    sys.exit(main())
