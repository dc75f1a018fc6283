/* SPDX-License-Identifier: Apache-2.0 */
import { nginx } from '../../lib/nginx.mjs';

export default nginx('nginx-pass', [], { title: 'nginx proxy_pass', once: true, does: 'No cache. What one hop more costs: the measure for misses and forwarded calls.' });
