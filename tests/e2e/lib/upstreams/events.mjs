/* SPDX-License-Identifier: Apache-2.0 */
// An event store for one legacy session, in memory: what Last-Event-ID resumption needs. Fits both SDK generations.
export class EventLog {
    #events = [];

    async storeEvent(streamId, message) {
        const eventId = `${streamId}#${this.#events.length}`;
        this.#events.push({ eventId, streamId, message });
        return eventId;
    }

    async getStreamIdForEventId(eventId) {
        return eventId.slice(0, eventId.lastIndexOf('#'));
    }

    async replayEventsAfter(lastEventId, { send }) {
        const streamId = await this.getStreamIdForEventId(lastEventId);
        const seen = Number(lastEventId.slice(streamId.length + 1));
        for (const { eventId, message } of this.#events.slice(seen + 1).filter((event) => event.streamId === streamId)) {
            // A priming event carries no message; there is nothing to say again.
            if (message && Object.keys(message).length > 0) await send(eventId, message);
        }
        return streamId;
    }
}
