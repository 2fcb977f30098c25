#!/usr/bin/env bash
# Trains a LoRA on the columns of a small table and follows the job to its end. See README.md.
set -euo pipefail

server=${TUNESMITH_URL:-http://127.0.0.1:23478}
model=${TUNESMITH_MODEL:-meta-llama/Llama-3.2-1B-Instruct}
data=$(dirname "$0")/../datasets/table.csv
org=0bf00b43-430a-4ca3-a8b3-b13cc8dc6d4d

field() { python3 -c 'import json, sys; print(json.load(sys.stdin).get(sys.argv[1], ""))' "$1"; }

answer=$(curl -sS "$server/api/llm/train" --form "training_config_json={
    \"model_type\": \"llm\",
    \"base_model\": \"$model\",
    \"adapter\": {\"r\": 16},
    \"trainer\": {\"epochs\": 2, \"batch_size\": 2, \"gradient_accumulation_steps\": 2, \"logging_steps\": 1},
    \"prompt\": {\"template\": \"Describe a {product} of {material}:\"},
    \"output_column\": \"description\"
  }" \
  --form experiment_name=shop --form "csv_file=@$data" --form org=$org)

job=$(field request_id <<<"$answer")
if [ -z "$job" ]; then
  echo "The server refused the job: $(field error <<<"$answer")"
  exit 1
fi

status=pending
while [[ $status =~ ^(pending|running)$ ]]; do
  sleep 1
  answer=$(curl -sS "$server/api/llm/training_job/get?org_id=$org&request_id=$job")
  status=$(field status <<<"$answer")
  echo "$job $status $(field progress <<<"$answer") %"
done
echo "Weights: $(field output_model <<<"$answer")"
[ "$status" = completed ]
