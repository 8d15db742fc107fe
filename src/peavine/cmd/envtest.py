"""Write the programs that Go's envtest starts (KUBEBUILDER_ASSETS)."""

from __future__ import annotations

import argparse
from pathlib import Path


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="peavine envtest",
        description="Write kube-apiserver and etcd for envtest of controller-runtime: Go test suites then run against "
        "Peavine, unchanged. An installed kubectl is linked beside them.",
    )
    p.add_argument("--assets", metavar="DIR", required=True, help="where to; point KUBEBUILDER_ASSETS there")
    p.add_argument(
        "--kubernetes-version",
        default="1.37",
        choices=[f"1.{minor}" for minor in range(25, 38)],
        metavar="1.25...1.37",
        help="whose groups, kinds and fields the API server serves",
    )
    return p


def main(argv: list[str]) -> int:
    from peavine.testing.envtest import PROGRAMS, run_program, write_assets

    if argv[:1] == ["--run"] and argv[1:2] and argv[1] in PROGRAMS:  # what the written programs call
        return run_program(argv[1], argv[2:])
    args = parser().parse_args(argv)
    directory = Path(args.assets).resolve()
    for path in write_assets(directory, args.kubernetes_version):
        print(f"wrote {path}")
    print(f"export KUBEBUILDER_ASSETS={directory}")
    return 0
