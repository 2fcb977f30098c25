#!/usr/bin/env bash
# Registers a small dataset, trains a LoRA on it and follows the job to its end. See README.md.
set -euo pipefail

server=${TUNESMITH_URL:-http://127.0.0.1:23478}
model=${TUNESMITH_MODEL:-meta-llama/Llama-3.2-1B-Instruct}
data=$(dirname "$0")/../datasets/sharegpt.jsonl
org=0bf00b43-430a-4ca3-a8b3-b13cc8dc6d4f

field() { python3 -c 'import json, sys; print(json.load(sys.stdin).get(sys.argv[1], ""))' "$1"; }

curl -sS "$server/dataset" --form org=$org --form dataset_name=sorting-waste --form "file=@$data"
echo

answer=$(curl -sS "$server/job" --form org=$org --form "experiment_name=sorting-waste-$(date +%s%N)" \
  --form 'dataset_config={"preprocessing": {"prompt": {"max_length": 1024}}, "split": {"ratios": [0.8, 0.2]}}' \
  --form "model_details={\"base_model\": \"$model\"}" \
  --form 'train_config={
    "type": "sft",
    "train_type": "lora",
    "hyperparameters": {"num_epochs": 2, "per_device_train_batch_size": 2, "logging_steps": 1},
    "adapter_config": {"r": 16, "alpha": 32}
  }' \
  --form 'dataset_details={
    "dataset_name": "sorting-waste",
    "dataset_path": "sorting-waste",
    "dataset_format": "sharegpt",
    "source_type": "local"
  }' \
  --form 'infra_config={"gpu_count": 1}')

job=$(field request_id <<<"$answer")
if [ -z "$job" ]; then
  echo "The server refused the job: $(field error <<<"$answer")"
  exit 1
fi

status=QUEUED
while [[ $status =~ ^(QUEUED|RUNNING)$ ]]; do
  sleep 1
  answer=$(curl -sS "$server/job/get?org_id=$org&request_id=$job")
  status=$(field status <<<"$answer")
  echo "$job $status $(field progress <<<"$answer") %"
done
echo "Weights: $(field output_model_path <<<"$answer")"
[ "$status" = COMPLETED ]
