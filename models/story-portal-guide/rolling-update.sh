#!/bin/bash
# Updates the gateways one after the other. Defects are kept (RU-1 to RU-5).

SERVICES="l09-api-gateway-1 l09-api-gateway-2 l09-api-gateway-3"

for SERVICE in $SERVICES; do
  echo "Updating $SERVICE..."

  docker-compose -f docker-compose.ha.yml pull $SERVICE

  docker-compose -f docker-compose.ha.yml up -d $SERVICE

  echo "Waiting for $SERVICE to be healthy..."
  for i in {1..30}; do
    if docker inspect $SERVICE | grep -q "healthy"; then
      echo "$SERVICE is healthy"
      break
    fi
    sleep 2
  done

  sleep 5
done

echo "Rolling update complete"
