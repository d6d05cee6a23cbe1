#!/usr/bin/env bash
# One experiment on every worker of a Cloud TPU VM slice:
#
#   TPU=my-slice ZONE=us-central2-b experiments/launch/tpu_vm.sh \
#       --config=configs/lm.py:paper --config.data_dir=/data --workdir=gs://BUCKET/lm
#
# Copies the last commit of this checkout to all workers, installs it there, and starts the same
# command on each; the workers find each other. Run it again after a preemption: it continues from
# the last checkpoint.
# DRY_RUN=1 prints the gcloud commands instead.
set -euo pipefail
cd "$(dirname "$0")/../.."
: "${TPU:?the name of the TPU VM}" "${ZONE:?its zone}"

gcloud_() { if [[ -n "${DRY_RUN:-}" ]]; then printf '%q ' gcloud "$@"; echo; else gcloud "$@"; fi; }

archive=$(mktemp --suffix=.tar.gz)
trap 'rm -f "$archive"' EXIT
git diff --quiet HEAD || echo "changes that are not committed are not copied" >&2
git archive --format=tar.gz --output="$archive" HEAD
gcloud_ compute tpus tpu-vm scp "$archive" "$TPU:hgeo.tar.gz" --zone="$ZONE" --worker=all
printf -v arguments '%q ' "$@"
gcloud_ compute tpus tpu-vm ssh "$TPU" --zone="$ZONE" --worker=all --command="
    set -e
    mkdir -p hgeo && cd hgeo && rm -rf hgeo configs experiments && tar -xzf ../hgeo.tar.gz
    python3 -m venv .venv && . .venv/bin/activate
    pip install -q -e '.[tpu,data]'
    python -m hgeo.main --distributed $arguments"
