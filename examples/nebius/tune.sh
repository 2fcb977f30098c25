#!/usr/bin/env bash
# Tunes an adapter as Nebius's pages do, follows the job, and deploys its last checkpoint as a model. See README.md.
set -euo pipefail

model=$1
rows=$2
server=${TUNESMITH_URL:-http://127.0.0.1:23478}/nebius

api() { curl -sS --fail-with-body -H "Authorization: Bearer ${TUNESMITH_API_KEY:-any}" "$@"; }
field() { python3 -c 'import json, sys; print(json.load(sys.stdin)[sys.argv[1]])' "$1"; }

file=$(api "$server/v1/files" -F purpose=fine-tune -F "file=@$rows" | field id)
job=$(api "$server/v1/fine_tuning/jobs" -H "Content-Type: application/json" -d '{
  "model": "'"$model"'",
  "training_file": "'"$file"'",
  "hyperparameters": {
    "batch_size": 8,
    "learning_rate": 0.0001,
    "n_epochs": 2,
    "packing": true,
    "context_length": 8192,
    "lora": true,
    "lora_r": 16,
    "lora_alpha": 32
  },
  "seed": 42,
  "suffix": "example",
  "tags": ["my-ft-job"]
}' | field id)

status=queued
while [[ $status =~ ^(validating_files|queued|running)$ ]]; do
  sleep 1
  status=$(api "$server/v1/fine_tuning/jobs/$job" | field status)
  echo "$job $status"
done
[ "$status" = succeeded ]

# The oldest comes first, so the last one is the newest.
checkpoint=$(api "$server/v1/fine_tuning/jobs/$job/checkpoints" | field last_id)
api "$server/v0/models" -H "Content-Type: application/json" -d '{
  "name": "example",
  "base_model": "'"$model"'",
  "source": "'"$job:$checkpoint"'"
}' | field name
