#!/usr/bin/env bash
# Registers a small data set, submits a training as the origin's page does, and waits for its end.
#   examples/training_api/train.sh [MODEL]      MODEL: a name that this server knows, by default smollm2-135m-instruct
# TUNESMITH_URL is the server's address, by default http://127.0.0.1:23478.
set -euo pipefail

url=${TUNESMITH_URL:-http://127.0.0.1:23478}
model=${1:-smollm2-135m-instruct}
rows=$(dirname "$0")/../datasets/messages.jsonl

curl --fail-with-body --silent --show-error "$url/tunesmith/v1/datasets" --form name=v1.0 --form "file=@$rows"
echo

answer=$(
  curl --fail-with-body --silent --show-error --request POST "$url/train?strategy=queue" \
    --header 'Content-Type: application/json' \
    --data "{
      \"model_name\": \"$model\",
      \"dataset_version\": \"v1.0\",
      \"batch_size\": 1,
      \"learning_rate\": \"2.0e-4\",
      \"num_epochs\": 3.0,
      \"save_name\": \"first-steps\"
    }"
)
echo "$answer"
job=$(sed -E 's/.*"job_id":"([^"]+)".*/\1/' <<<"$answer")

while status=$(curl --fail-with-body --silent --show-error "$url/train/$job"); [[ $status =~ \"status\":\"(queued|running)\" ]]; do
  sleep 1
done
echo "$status"
[[ $status == *'"status":"completed"'* ]]
