// The guide's stages and thresholds, with the requests and pauses that it leaves out (LT-1, LT-2).
import http from 'k6/http';
import { check, sleep } from 'k6';

export const options = {
  stages: [
    { duration: '5m', target: 500 },
    { duration: '10m', target: 500 },
    { duration: '2m', target: 0 },
  ],
  thresholds: {
    http_req_duration: ['p(99)<1000'],
    http_req_failed: ['rate<0.001'],
  },
};

const BASE = __ENV.BASE_URL || 'http://10.0.0.10:8009';

function ok(response) {
  check(response, { 'status is 200': (r) => r.status === 200 });
}

// Four reads and one write: the 80/20 mix, one second of thought after each.
export default function () {
  ok(http.get(`${BASE}/api/stories`));
  sleep(1);
  ok(http.get(`${BASE}/api/feed`));
  sleep(1);
  ok(http.get(`${BASE}/api/stories`));
  sleep(1);
  ok(http.get(`${BASE}/api/feed`));
  sleep(1);
  ok(http.post(`${BASE}/api/publish`, JSON.stringify({ title: 'load test' })));
  sleep(1);
}
