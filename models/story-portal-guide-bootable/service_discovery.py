# Static list of replicas without health or retry rules (SV-1).
SERVICE_DISCOVERY_CONFIG = {
    "L09_API_GATEWAY": [
        "http://l09-api-gateway-1:8009",
        "http://l09-api-gateway-2:8009",
        "http://l09-api-gateway-3:8009"
    ],
    "L01_DATA_LAYER": [
        "http://l01-data-layer-1:8001",
        "http://l01-data-layer-2:8001"
    ],
}
