/* SPDX-License-Identifier: Apache-2.0 */
import { nginx } from '../../lib/nginx.mjs';

export default nginx('nginx-cache', [], {
    title: 'nginx proxy_cache',
    does: 'No. The body is the key, id included: real clients count their ids up and would never hit. Measured with the same id each time.',
    ids: 'fixed',
});
