#!/usr/bin/env bash
# The runs of one experiment (optimizer x repeat) dealt out to the tasks of a SLURM array, all of
# which fill one work folder; the last one to finish writes the report:
#
#   sbatch --array=1-4 --gres=gpu:1 experiments/launch/slurm.sh \
#       --config=configs/lm.py:paper --config.data_dir=/data --config.repeats=8 --workdir=/scratch/lm
#
# Two minutes before the time limit a task saves its state and ends; the same command continues.
# SHARES=4 sbatch --array=2,4 ... starts tasks 2 and 4 of four again.
#
#SBATCH --job-name=hgeo
#SBATCH --signal=B:TERM@120
set -euo pipefail
exec python -m hgeo.main "$@" \
    --config.share="${SLURM_ARRAY_TASK_ID:?start it by sbatch --array}/${SHARES:-$SLURM_ARRAY_TASK_COUNT}"
