#!/usr/bin/env bash
# Fetches a Kafka broker, as jars, into .cache/kafka/libs for the tests and for `make kafka`. It needs Java 17 and Maven.
set -euo pipefail
cd "$(dirname "$0")/.."
. tools/common.sh

libs=.cache/kafka/libs
stamp=.cache/kafka/stamp

java_new_enough() {
    local major
    major=$(java -version 2>&1 | sed -n 's/.*version "\([0-9]*\).*/\1/p' | head -n 1)
    [ "${major:-0}" -ge 17 ]
}

if ! have java || ! java_new_enough; then
    need_packages "Java 17 or newer" "openjdk-17-jre-headless|openjdk-21-jre-headless|openjdk-25-jre-headless"
    java_new_enough || stop "Java 17 or newer is needed, but the java on the path is another: $(java -version 2>&1 | head -n 1)"
fi

want=$(cksum < deploy/kafka/pom.xml)
if [ -d "$libs" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$want" ]; then exit 0; fi

have mvn || need_packages "Maven" maven
say "Kafka broker into $libs (about 45 MB)"
mkdir -p .cache/kafka
rm -rf "$libs.part" "$libs" "$stamp"
if ! mvn --batch-mode --file deploy/kafka/pom.xml -Dkafka.libs="$PWD/$libs.part" package > .cache/kafka/maven.log 2>&1; then
    grep ERROR .cache/kafka/maven.log | head -n 3 >&2
    stop "Maven could not fetch the Kafka broker (.cache/kafka/maven.log); with a registry in reach, type: make setup-kafka"
fi
mv "$libs.part" "$libs"
echo "$want" > "$stamp"
