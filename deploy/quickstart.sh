#!/bin/sh
# deploy/quickstart.sh - from a fresh Debian 12 or 13 to a served model, in one command.
#
# usage: deploy/quickstart.sh [--port N] [--model NAME|FILE.gguf] [--no-test-request] [-- SERVE OPTIONS]
#
# Installs the packages (root or sudo), builds the release in build/, gets the model and checks it,
# starts the daemon on 127.0.0.1, shows a streamed answer, and leaves it serving.
# What is there already is not done again: then it starts in seconds.
set -eu
cd "$(dirname "$0")/.."

port=8000
model=smollm2-135m
ask=yes
while [ $# -gt 0 ]; do
    case $1 in
    --port) port=${2:?--port needs a number}; shift 2 ;;
    --model) model=${2:?--model needs a name or a file}; shift 2 ;;
    --no-test-request) ask=no; shift ;;
    --) shift; break ;;
    -h | --help) sed -n '2,9s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) echo "quickstart.sh: unknown option '$1' (--help shows them)" >&2; exit 2 ;;
    esac
done
say() { printf '\033[1m%s\033[0m\n' "$*" >&2; }

say "1/4 packages"
deploy/deps.sh >&2

say "2/4 build"
[ -f build/build.ninja ] || meson setup build -Dbuildtype=release >&2
ninja -C build sluice >&2

say "3/4 model"
case $model in
*.gguf) file=$model ;;
*) file=$(deploy/get-model.sh "$model") ;;
esac
[ -f "$file" ] || { echo "quickstart.sh: no file '$file'" >&2; exit 1; }

say "4/4 serve"
state=${XDG_STATE_HOME:-$HOME/.local/state}/sluice
mkdir -p "$state"
log=$state/quickstart-$port.log
build/sluice serve --model "$file" --port "$port" "$@" >"$log" 2>&1 </dev/null &
pid=$!
url=http://127.0.0.1:$port
tries=0
until curl -fs -o /dev/null "$url/ready" 2>/dev/null; do
    if ! kill -0 "$pid" 2>/dev/null; then
        echo "quickstart.sh: the daemon did not start; the end of $log:" >&2
        tail -n 15 "$log" >&2
        exit 1
    fi
    tries=$((tries + 1))
    [ "$tries" -lt 1200 ] || { echo "quickstart.sh: not ready after 2 minutes; see $log" >&2; exit 1; }
    sleep 0.1
done

name=$(curl -fs "$url/v1/models" | sed -n 's/.*"id": *"\([^"]*\)".*/\1/p')
if [ "$ask" = yes ]; then
    say "a streamed answer"
    build/sluice chat --url "$url" --max-tokens 60 "Why is the sky blue? Answer in one sentence." || true
fi
cat <<TEXT

sluice serves $name on $url (process $pid, log $log; stop it with: kill $pid)

  curl $url/v1/chat/completions -H 'Content-Type: application/json' -d '{
    "model": "$name", "stream": true,
    "messages": [{"role": "user", "content": "Hello!"}]}'

  from openai import OpenAI
  client = OpenAI(base_url="$url/v1", api_key="none")
  print(client.chat.completions.create(model="$name",
        messages=[{"role": "user", "content": "Hello!"}]).choices[0].message.content)
TEXT
