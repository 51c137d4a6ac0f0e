// The wire protocol as types, made by `make documents` from docs/asyncapi.json: change documents/ and run it again.
// docs/PROTOCOL.md explains each frame. Import it as `import type { ClientFrame, ServerFrame } from "./peal";`.

/** Any JSON. */
export type Json = null | boolean | number | string | Json[] | { [name: string]: Json };

/** Of the client's choice; the reply or error carries it. */
export type Id = string | number;

/** The name of a user, device, connection or message. Like ^[A-Za-z0-9._~@:|=+-]{1,128}$ */
export type Name = string;

/** A channel's full name, namespace:name. At most 128 characters. Like ^[A-Za-z0-9._~@:|=+-]+$ */
export type Channel = string;

/** A name, namespace:* or * for everything. Like ^(\*|[A-Za-z0-9._~@:|=+-]{1,128}|[A-Za-z0-9._~@|=+-]{1,128}:\*)$ */
export type Pattern = string;

/** RFC 3339 in UTC with milliseconds. Like ^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$ */
export type Time = string;

/** What a client says of itself, in at most 1,024 bytes. */
export type Attributes = { [name: string]: string | number | boolean | null };

/** The last place in a channel that one knows. */
export type Position = {
  epoch: string;
  /** At most 9007199254740991. */
  offset: number;
};

/** Who sent it; userId is null for someone anonymous. */
export type Sender = {
  userId: Name | null;
  connectionId: Name;
};

/** As it is kept; from is null when a server published. */
export type Publication = {
  /** At least 1. */
  offset: number;
  data: Json;
  from: Sender | null;
  time: Time;
  messageId: Name | null;
};

/** A user who is here; all who are anonymous share one, whose userId is null. */
export type Member = {
  userId: Name | null;
  connections: number;
  attributes: Attributes;
};

/** What became of each receiver; together they are the audience. */
export type Outcome = {
  sent: number;
  gone: number;
  failed: number;
};

/** Another invocation sends it, or has sent it. */
export type Queued = {
  queued: true;
};

/** Nothing happens; the connection is not idle. */
export type PingFrame = {
  action: "ping";
  id?: Id | null;
};

export type PingReply = {
  type: "reply";
  id: Id;
  data: { [name: string]: Json };
};

/** The sender knows what the server knows of it. */
export type WhoamiFrame = {
  action: "whoami";
  id?: Id | null;
};

export type WhoamiReply = {
  type: "reply";
  id: Id;
  data: {
    connectionId: Name;
    userId: Name | null;
    deviceId: Name | null;
    connectedAt: Time;
    /** Epoch seconds. */
    expiresAt: number | null;
    attributes: Attributes;
    channels: Channel[];
  };
};

/** The sender is signed in, or stays so for longer. */
export type AuthenticateFrame = {
  action: "authenticate";
  token: string;
  id?: Id | null;
};

export type AuthenticateReply = {
  type: "reply";
  id: Id;
  data: {
    userId: Name;
    /** Epoch seconds. */
    expiresAt: number;
  };
};

/** All connections of a user, or one connection, are sent a message. */
export type SendMessageFrame = ({
  action: "sendMessage";
  id?: Id | null;
  targetUserId?: Name | null;
  targetConnectionId?: Name | null;
  text?: string | null;
  data?: Json;
}) & ({
  targetUserId: Name;
  targetConnectionId?: null;
} | {
  targetConnectionId: Name;
  targetUserId?: null;
}) & ({
  text: string;
} | {
  data: { [name: string]: Json } | Json[] | string | number | boolean;
});

export type SendMessageReply = {
  type: "reply";
  id: Id;
  data: Outcome;
};

/** Everyone who is connected is sent a broadcast, or will be soon. */
export type BroadcastAllFrame = {
  action: "broadcastAll";
  id?: Id | null;
  note?: string | null;
  data?: Json;
};

export type BroadcastAllReply = {
  type: "reply";
  id: Id;
  data: Outcome | Queued;
};

/** The sender is a member of the channel, and has what it missed since `recover`. */
export type SubscribeFrame = {
  action: "subscribe";
  /** At most 128 characters. Like ^(chat|feed|live|user):[A-Za-z0-9._~@:|=+-]+$ */
  channel: string;
  id?: Id | null;
  recover?: Position | null;
};

export type SubscribeReply = {
  type: "reply";
  id: Id;
  data: {
    channel: Channel;
    epoch: string | null;
    offset: number | null;
    recovered?: boolean;
    publications?: Publication[];
  };
};

/** The sender is no member of the channel. */
export type UnsubscribeFrame = {
  action: "unsubscribe";
  /** At most 128 characters. Like ^(chat|feed|live|user):[A-Za-z0-9._~@:|=+-]+$ */
  channel: string;
  id?: Id | null;
};

export type UnsubscribeReply = {
  type: "reply";
  id: Id;
  data: {
    channel: Channel;
  };
};

/** The members of the channel are sent the data; where it has history, it is kept. */
export type PublishFrame = {
  action: "publish";
  /** At most 128 characters. Like ^(chat|live):[A-Za-z0-9._~@:|=+-]+$ */
  channel: string;
  data: Json;
  id?: Id | null;
  messageId?: Name | null;
  exclude?: boolean | null;
};

export type PublishReply = {
  type: "reply";
  id: Id;
  data: ({
    channel: Channel;
    epoch: string | null;
    offset: number | null;
  }) & (Outcome | Queued);
};

/** The sender knows who is in the channel. */
export type PresenceFrame = {
  action: "presence";
  /** At most 128 characters. Like ^(chat):[A-Za-z0-9._~@:|=+-]+$ */
  channel: string;
  id?: Id | null;
};

export type PresenceReply = {
  type: "reply";
  id: Id;
  data: {
    channel: Channel;
    members: Member[] | null;
    count: number;
    connections: number;
    /** False where counting stopped. */
    complete: boolean;
  };
};

/** The sender has a page of what was published in the channel. */
export type HistoryFrame = {
  action: "history";
  /** At most 128 characters. Like ^(chat|feed|user):[A-Za-z0-9._~@:|=+-]+$ */
  channel: string;
  id?: Id | null;
  since?: Position | null;
  /** At most 1000. By default 100. */
  limit?: number | null;
  reverse?: boolean | null;
};

export type HistoryReply = {
  type: "reply";
  id: Id;
  data: {
    channel: Channel;
    epoch: string;
    /** Where the channel stands. */
    offset: number;
    publications: Publication[];
  };
};

/** Somebody sent a message to this user or connection; from is null when a server did. */
export type MessagePush = {
  type: "message";
  from: Sender | null;
  text: string | null;
  data: Json;
  time: Time;
};

/** Somebody addressed everyone. */
export type BroadcastPush = {
  type: "broadcast";
  time: Time;
  note: string | null;
  data: Json;
};

/** Something was published in a channel; epoch and offset are null where it has no history. */
export type PublicationPush = {
  type: "publication";
  channel: Channel;
  epoch: string | null;
  offset: number | null;
  data: Json;
  from: Sender | null;
  time: Time;
  messageId: Name | null;
};

/** A part of what a subscriber missed; the reply to its subscribe has the last. */
export type RecoveryPush = {
  type: "recovery";
  channel: Channel;
  epoch: string;
  publications: Publication[];
};

/** A user has come to a channel. */
export type JoinPush = {
  type: "join";
  channel: Channel;
  user: Name;
};

/** A user has left a channel. */
export type LeavePush = {
  type: "leave";
  channel: Channel;
  user: Name;
};

/** A server has taken this connection out of a channel. */
export type UnsubscribedPush = {
  type: "unsubscribed";
  channel: Channel;
};

/** The last frame before the server closes the socket. A server may use codes of its own beside `unauthenticated` and `closed`. */
export type GoodbyePush = {
  type: "goodbye";
  code: Name;
  reason: string | null;
};

export type ErrorFrame = {
  type: "error";
  id: Id | null;
  error: {
    code: "bad_frame" | "forbidden" | "internal_error" | "invalid" | "limit_exceeded" | "not_found" | "not_subscribed" | "rate_limited" | "too_large" | "unauthenticated" | "unknown_action";
    message: string;
    retryable: boolean;
  };
};

export type GatewayError = {
  message: string;
  connectionId: string;
  requestId: string;
  /** Never there. */
  type?: never;
};

/** What a client may send. */
export type ClientFrame =
  | PingFrame
  | WhoamiFrame
  | AuthenticateFrame
  | SendMessageFrame
  | BroadcastAllFrame
  | SubscribeFrame
  | UnsubscribeFrame
  | PublishFrame
  | PresenceFrame
  | HistoryFrame;

/** What a server sends unasked. */
export type Push =
  | MessagePush
  | BroadcastPush
  | PublicationPush
  | RecoveryPush
  | JoinPush
  | LeavePush
  | UnsubscribedPush
  | GoodbyePush;

/** What answers a frame that has an id. */
export type Reply =
  | PingReply
  | WhoamiReply
  | AuthenticateReply
  | SendMessageReply
  | BroadcastAllReply
  | SubscribeReply
  | UnsubscribeReply
  | PublishReply
  | PresenceReply
  | HistoryReply;

/** What a client receives. API Gateway's own errors have no `type`. */
export type ServerFrame =
  | Reply
  | ErrorFrame
  | Push
  | GatewayError;

/** What each action takes and is replied. */
export interface Actions {
  ping: { frame: PingFrame; data: PingReply["data"] };
  whoami: { frame: WhoamiFrame; data: WhoamiReply["data"] };
  authenticate: { frame: AuthenticateFrame; data: AuthenticateReply["data"] };
  sendMessage: { frame: SendMessageFrame; data: SendMessageReply["data"] };
  broadcastAll: { frame: BroadcastAllFrame; data: BroadcastAllReply["data"] };
  subscribe: { frame: SubscribeFrame; data: SubscribeReply["data"] };
  unsubscribe: { frame: UnsubscribeFrame; data: UnsubscribeReply["data"] };
  publish: { frame: PublishFrame; data: PublishReply["data"] };
  presence: { frame: PresenceFrame; data: PresenceReply["data"] };
  history: { frame: HistoryFrame; data: HistoryReply["data"] };
}
