#!/usr/bin/env bash
# Asks for a LoRA on pictures of a product and follows it to its end. See README.md.
set -euo pipefail

server=${TUNESMITH_URL:-http://127.0.0.1:23478}

pictures=$(python3 -c 'import json, sys; print(json.dumps(sys.argv[1:]))' "$@")
secret=$(python3 -c 'import json, sys; print(json.dumps(sys.argv[1] or None))' "${BASE_MODEL_SECRET:-}")

answer=$(curl -sS "$server/api/v1/training/" -H "Content-Type: application/json" -d '{
  "training_type": "LORA",
  "entity_type": "PRODUCT",
  "trigger_word": "tnsmth mug",
  "rank": 16,
  "steps": 1000,
  "learning_rate": 1e-4,
  "sample_prompts": ["a [trigger] on a wooden table, morning light"],
  "source_images": '"$pictures"',
  "preprocessing_transforms": [{"type": "exif_orient"}, {"type": "max_side", "pixels": 1536}],
  "preprocessing_captioning_strategy": "custom",
  "preprocessing_captioning_prompt": "a photo of a [trigger]",
  "base_model_secret": '"$secret"'
}')
field() { python3 -c 'import json, sys; print(json.load(sys.stdin).get(sys.argv[1], ""))' "$1"; }

task=$(field id <<<"$answer")
if [ -z "$task" ]; then
  echo "The server refused the task: $(field detail <<<"$answer")"
  exit 1
fi

status=PENDING
while [[ $status =~ ^(PENDING|QUEUED|PREPROCESSING|RUNNING)$ ]]; do
  sleep 2
  answer=$(curl -sS "$server/api/v1/training/$task")
  status=$(field status <<<"$answer")
  echo "$task $status $(field progress <<<"$answer") %"
done
if [ "$status" != COMPLETED ]; then
  field error_message <<<"$answer"
  exit 1
fi
echo "Weights: $(field training_folder <<<"$answer")"
